"""A pair without servers behind the public face."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rrti_sgl as rr
from rrti_sgl.programs.running.session import Concurrency, PairSession
from tests.toy_pair import toy_pair

N = 6


@asynccontextmanager
async def toy_session() -> AsyncIterator[PairSession]:
    async with PairSession(toy_pair(), Concurrency(samples=4)) as session:
        yield session


@pytest.fixture
def pair() -> Iterator[rr.ModelPair]:
    with rr.ModelPair(toy_session()) as opened:
        yield opened


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Options of a run over a file of six problems."""
    rng = np.random.default_rng(0)
    questions = [" ".join(f"w{i}" for i in rng.integers(1, 7, size=5)) for _ in range(N)]
    rows = [{"question": question, "answer": "1"} for question in questions]
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = {"base_template": "bare@1", "reasoning_template": "bare@1"}
    return {"problems": str(path), "k": 4, "max_new_tokens": 30, "tau": 2.0, **shown}
