"""Fixtures for all tests: the bundled pair on two real SGLang servers, started once for the whole session."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rrti_sgl import migrations
from rrti_sgl.db import upgrading
from rrti_sgl.programs.reporting import pages
from rrti_sgl.programs.reporting.figures import style
from rrti_sgl.serving.server import ServedPair, bundled_servers

# The machine decides how long an example takes; the same examples in every run.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def group(path: str) -> str:
    """What runs in one process where several run the tests: a file, or all files that use the servers of the session."""
    uses_servers = re.search(r"\b(served_pair|fused): ", (ROOT / path).read_text(encoding="utf-8"))
    return "servers" if uses_servers else path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The servers' tests first: they take longest."""
    items.sort(key=lambda item: group(item.nodeid.partition("::")[0]) != "servers")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where pytest-xdist is there and asked for several processes."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc, no-any-unimported]
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid.partition("::")[0])

    return Groups(config, log)


SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "benchmarks"


@pytest.fixture
def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of reports as SVG alone: drawing them as PNG and PDF, too, is most of a report's time."""
    for module in (pages, style):
        monkeypatch.setattr(module, "FORMATS", ("svg",))


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store file of the newest schema without rows, for tests to copy."""
    path = tmp_path_factory.mktemp("empty") / "empty.duckdb"
    migrations.upgrade(path)
    return path


@pytest.fixture(autouse=True)
def new_stores_are_copies(empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of tests begin with a new store: a copy of one takes a tenth of the quarter second that making it takes.

    Modules whose subject is how stores are made replace this fixture.
    """
    made = migrations.upgrade

    def upgrade(path: Path, revision: str = "head") -> None:
        if revision in ("head", migrations.head()) and upgrading.current_revision(path) is None:
            shutil.copyfile(empty_store, path)
        else:
            made(path, revision)

    monkeypatch.setattr(migrations, "upgrade", upgrade)


@pytest.fixture(scope="session")
def served_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPair]:
    """Both models of the bundled pair on real servers; about half a minute, once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ServedPair(*bundled_servers(tmp_path_factory.mktemp("servers"), device="cpu")) as pair:
        yield pair
