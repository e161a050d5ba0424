"""One real server that holds both bundled models, for all tests of this folder."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.serving.fused import BothModels
from rrti_sgl.tinypair.bundle import bundled_pair

Serving = Callable[..., AbstractContextManager[BothModels]]


@contextlib.contextmanager
def serving(folder: Path, *flags: str, **changes: Any) -> Iterator[BothModels]:
    models = bundled_pair()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    server = BothModels(
        str(models.reasoning), "fused", folder, flags, device="cpu", served_name="bundled/reasoning",
        base_model=str(models.base), **changes,
    )  # fmt: skip
    try:
        server.start()
        while not server.is_ready():
            time.sleep(0.2)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothModels]:
    with serving(tmp_path_factory.mktemp("fused"), "--skip-tokenizer-init") as server:
        yield server
