"""One real server that holds both bundled models, for all tests of this folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.server import STREAMS_WHAT_IS_NEW, TOKEN_IDS_ONLY, ServedPair
from rrti_sgl.tinypair.bundle import bundled_pair


@contextlib.contextmanager
def serving(folder: Path, *flags: str, **changes: Any) -> Iterator[BothModels]:
    models = bundled_pair()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    server = BothModels(
        str(models.reasoning), "fused", folder, flags, device="cpu", served_name="bundled/reasoning",
        base_model=str(models.base), **changes,
    )  # fmt: skip
    with ServedPair(server, server):
        yield server


@pytest.fixture(scope="session")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothModels]:
    with serving(tmp_path_factory.mktemp("fused"), *TOKEN_IDS_ONLY, *STREAMS_WHAT_IS_NEW) as server:
        yield server
