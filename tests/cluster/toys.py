"""Toy pairs for actors of a real Ray cluster: importable there, and as slow as a file says."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rrti_sgl.db import folders
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError
from rrti_sgl.programs.running.session import Concurrency, PairSession
from tests.toy_pair import ToyEngine, toy_pair

SEED = 3


class Steered(ToyEngine):
    """A toy engine that notes the process it is in, and does what files in a folder say."""

    folder: Path

    async def generate(self, requests: Sequence[GenerateRequest]) -> list[Generation]:
        (self.folder / f"pid-{os.getpid()}").touch()
        while (self.folder / "hold").exists() or (self.folder / f"hang-{os.getpid()}").exists():
            await asyncio.sleep(0.02)
        if (self.folder / f"broken-{os.getpid()}").exists():
            raise EndpointError("The server is gone.")
        return await super().generate(requests)


@dataclass(frozen=True)
class ToyOpening:
    """Opens a toy pair in an actor."""

    folder: Path

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[PairSession]:
        """A session on it; the disk is full for it while a file says so."""
        durable = folders.sync

        def sync(path: Path) -> None:
            if (self.folder / "full").exists() and path.suffix == ".parquet":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            durable(path)

        folders.sync = sync
        pair = toy_pair(SEED)
        base = Steered(SEED)
        base.folder = self.folder
        async with PairSession(replace(pair, base=base), Concurrency(4)) as session:
            yield session
