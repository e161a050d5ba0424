"""Fixtures for all tests: the bundled pair on two real SGLang servers, started once for the whole session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from rrti_sgl.serving.server import ServedPair, bundled_servers

# The machine decides how long an example takes; the same examples in every run.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")

# Tests on the servers of the whole session run in one process, first; those of a file stay together, for its fixtures.
_SERVERS = {"served_pair", "fused"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def group(item: pytest.Item) -> str:
        return "servers" if _SERVERS.intersection(getattr(item, "fixturenames", ())) else item.location[0]

    items.sort(key=lambda item: group(item) != "servers")
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))


SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "benchmarks"


@pytest.fixture(scope="session")
def served_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPair]:
    """Both models of the bundled pair on real servers; about half a minute, once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ServedPair(*bundled_servers(tmp_path_factory.mktemp("servers"), device="cpu")) as pair:
        yield pair
