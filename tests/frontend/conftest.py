"""Backends on the bundled pair, with the problems of its world as prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.problems import load_problems
from rrti_sgl.programs.frontend import InterventionBackend
from rrti_sgl.science.gates import DivergenceGate, Gate, ThresholdRule
from rrti_sgl.serving.server import ServedPair

OpenBackend = Callable[..., InterventionBackend]
TAU = 0.5


def guided() -> Gate:
    return DivergenceGate("ce", ThresholdRule(TAU))


@pytest.fixture(scope="session")
def questions() -> list[str]:
    return [problem.question for problem in load_problems("world:heldout", limit=24).problems]


@pytest.fixture
def open_backend(served_pair: ServedPair) -> Iterator[OpenBackend]:
    """Opens backends with k = the whole vocabulary, and closes them after the test."""
    opened: list[InterventionBackend] = []

    def open_one(gate: Gate | str | None = None, **options: Any) -> InterventionBackend:
        urls = (served_pair.base.url, served_pair.reasoning.url)
        opened.append(InterventionBackend(*urls, gate or guided(), **({"k": 0} | options)))
        return opened[-1]

    yield open_one
    for backend in opened:
        backend.close()


def rows(path: Path | Store, query: str, **params: Any) -> list[dict[str, Any]]:
    if isinstance(path, Store):
        return path.sql(query, params).to_pylist()
    with Store.open_readonly(path) as store:
        return store.sql(query, params).to_pylist()
