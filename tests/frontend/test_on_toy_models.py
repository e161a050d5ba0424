"""What a backend does around the servers: traces, stores that fail, ends; on models in memory, in milliseconds."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from rrti_sgl.programs.frontend import InterventionBackend, backend
from rrti_sgl.programs.running.session import PairSession
from tests.frontend.conftest import rows
from tests.session.test_session import OwnGuided
from tests.toy_pair import toy_pair

import sglang as sgl  # isort: skip  # after rrti_sgl.programs.frontend, which makes it importable on a machine without a GPU


@contextlib.asynccontextmanager
async def open_session(*_: Any, **__: Any) -> AsyncIterator[PairSession]:
    async with PairSession(toy_pair()) as session:
        yield session


@pytest.fixture(autouse=True)
def on_toy_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "open_session", open_session)


def opened(**options: Any) -> InterventionBackend:
    return InterventionBackend("", "", "guided", **{"k": 0, "tau": 1.0} | options)


@sgl.function
def drawn(s: Any, lengths: list[int]) -> None:
    s += "w1 w2"
    s += sgl.gen("word", choices=[" w3", " w4 w5"], choices_method=sgl.unconditional_likelihood_normalized)
    forks = s.fork(len(lengths))
    forks += lambda i: sgl.gen("text", max_tokens=lengths[i], temperature=1.0, ignore_eos=True)
    s["infos"] = [fork.get_meta_info("text") for fork in forks]
    forks.join()


def test_every_gen_is_a_sample_of_the_run_of_its_options(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with opened(store=path) as kept:
        state = drawn.run([4, 4, 9], backend=kept)
        infos = state["infos"]
    assert [info["completion_tokens"] for info in infos] == [4, 4, 9]
    assert {info["run_id"] for info in infos} == set(kept.run_ids)
    found = rows(path, "SELECT run_id, sample_id, sample_index, n_tokens FROM samples ORDER BY n_tokens, sample_index")
    assert [(row["sample_index"], row["n_tokens"]) for row in found] == [(0, 4), (1, 4), (0, 9)]
    assert {(row["run_id"], row["sample_id"]) for row in found} == {(info["run_id"], info["sample_id"]) for info in infos}
    runs = rows(path, "SELECT *, config->>'kind' AS kind, config->>'session' AS session FROM runs")
    assert {(run["program"], run["kind"], run["status"], run["n_problems"]) for run in runs} == {
        ("frontend", "frontend", "finished", 0)
    }
    assert len({run["session"] for run in runs}) == 1


def test_without_a_store_samples_have_their_numbers_all_the_same() -> None:
    with opened() as unkept:
        infos = drawn.run([4, 4], backend=unkept)["infos"]
    assert sorted(info["sample_index"] for info in infos) == [0, 1]


def interrupted(path: Path) -> None:
    with opened(store=path) as kept:
        drawn.run([4], backend=kept).sync()
        raise KeyboardInterrupt


def test_how_a_backend_was_left_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "t.duckdb"
    with pytest.raises(KeyboardInterrupt):
        interrupted(path)
    assert rows(path, "SELECT status, error FROM runs") == [{"status": "interrupted", "error": "KeyboardInterrupt"}]


def test_a_store_that_fails_is_told_to_the_program_and_on_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(DuckDBSink, "write", full)
    with Store.open(tmp_path / "t.duckdb") as store:
        failing = opened(store=store)
        drawn.run([4], backend=failing).sync()
        with pytest.raises(StoreError, match="disk is full"):
            failing.flush()
        with pytest.raises(StoreError, match="disk is full"):
            drawn.run([4], backend=failing).text()
        with pytest.raises(StoreError, match="disk is full"):
            failing.close()


class Watched(OwnGuided):
    """Notes for each sample whether somebody waits for its pieces."""

    def __init__(self) -> None:
        super().__init__(toy_pair())
        self.waited: list[bool] = []

    def decode(self, *args: Any, streamed: bool) -> Any:
        self.waited.append(streamed)
        return super().decode(*args, streamed=streamed)


def test_a_server_of_whole_samples_gives_pieces_where_they_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()

    @contextlib.asynccontextmanager
    async def open_watched(*_: Any, **__: Any) -> AsyncIterator[PairSession]:
        async with PairSession(toy_pair(), guided=watched) as session:
            yield session

    @sgl.function
    def said(s: Any, stop: str | None) -> None:
        s += "w1 w2"
        s += sgl.gen("text", max_tokens=6, stop=stop, ignore_eos=True)

    monkeypatch.setattr(backend, "open_session", open_watched)
    with opened() as kept:
        said.run(None, backend=kept).sync()
        "".join(said.run(None, backend=kept, stream=True).text_iter("text"))
        said.run("no such text", backend=kept).sync()
    assert watched.waited == [False, True, True]
