"""What the doors refuse before anything is opened or started: paths and names that are empty, numbers out of bounds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import rrti_sgl as rr
from rrti_sgl.cli import main
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.spelling import Options
from rrti_sgl.db import sealing
from rrti_sgl.db.store import Store
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.errors import UsageError, spelled
from rrti_sgl.programs.running.arms import plan_arms
from rrti_sgl.programs.running.runner import run_seeds
from tests.cli.fuzz.typed import declared_paths
from tests.db.conftest import make_problem, make_run, make_trace

SERVER = "http://127.0.0.1:9"


@pytest.fixture
def store(tmp_path: Path) -> rr.TraceStore:
    return rr.open(tmp_path / "store.duckdb")


@pytest.mark.parametrize("empty", ["", "  "])
@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda store, empty: rr.open(empty), "path="),
        (lambda store, empty: rr.open(empty, read_only=True), "path="),
        (lambda store, empty: store.report(empty), "out="),
        (lambda store, empty: store.export("runs", empty, format="csv"), "out="),
        (lambda store, empty: rr.serve("bundled", log_dir=empty), "log_dir="),
        (lambda store, empty: rr.serve(base=empty, reasoning="x"), "base="),
        (lambda store, empty: rr.serve(base="x", reasoning=empty), "reasoning="),
    ],
)
def test_what_is_empty_is_no_path_and_no_name(
    store: rr.TraceStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[rr.TraceStore, str], object],
    named: str,
    empty: str,
) -> None:
    (here := tmp_path / "here").mkdir()
    monkeypatch.chdir(here)
    with store, pytest.raises(UsageError, match=f"^{named}'{empty}' (is no path|names nothing)"):
        call(store, empty)
    assert list(here.iterdir()) == []


def test_every_option_that_is_a_path_is_known_as_one() -> None:
    assert {flag for flag in declared_paths() if flag.startswith("--")} <= set(main.PATHS)


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize("option", main.PATHS)
def test_no_option_takes_an_empty_path(capfd: pytest.CaptureFixture[str], option: str, blank: str) -> None:
    for arguments in ((option, blank), (f"{option}={blank}",)):
        assert main.run(["whatif", "x", *arguments]) == 2
        assert f"{option} '' is no path" in capfd.readouterr().err


@pytest.mark.parametrize("command", ["info", "upgrade", "seal x", "unseal x", "check", "vacuum", "delete x", "attach y"])
def test_no_upkeep_takes_the_current_folder_for_an_empty_path(capfd: pytest.CaptureFixture[str], command: str) -> None:
    assert main.run(["db", *command.split(), ""]) == 2
    assert "'' is no path" in capfd.readouterr().err


@pytest.mark.parametrize("n", [0, -1, 10**9])
def test_samples_in_flight_have_bounds(n: int) -> None:
    with pytest.raises(UsageError, match=f"in_flight={n} is out of bounds"):
        rr.connect(SERVER, SERVER, in_flight=n)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"continuations": 0}, "continuations=0 is out of bounds"),
        ({"continuations": 10**9}, "continuations=1000000000 is out of bounds"),
        ({"temperature": -1.0}, "temperature=-1.0 is out of bounds"),
        ({"temperature": math.nan}, "temperature=nan is out of bounds"),
    ],
)
def test_numbers_of_a_counterfactual_have_bounds(store: rr.TraceStore, given: dict[str, Any], named: str) -> None:
    with store, pytest.raises(UsageError, match=named):
        plan_arms(store.store, "x", **given)


@pytest.mark.parametrize("seeds", [0, 10**9])
def test_seeds_have_bounds(store: rr.TraceStore, seeds: int) -> None:
    with store, pytest.raises(UsageError, match=f"seeds={seeds} makes no run"):
        asyncio.run(run_seeds(cast(Any, None), store.store, cast(Any, None), seeds))


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf, 1e9])
def test_patience_has_bounds_and_each_surface_names_it(capfd: pytest.CaptureFixture[str], seconds: float) -> None:
    with pytest.raises(UsageError, match=r"^patience_s=\S+ is no time to wait"):
        rr.connect(SERVER, SERVER, patience_s=seconds)
    with spelled(Options()), pytest.raises(UsageError, match=r"^--patience \S+ is no time to wait"):
        TransportLimits(patience_s=seconds)
    assert TransportLimits().patience_s == PairOptions().patience == 120.0


@pytest.mark.parametrize("command", ["run base --limit 1", "calibrate --limit 1", "score --input texts.jsonl"])
def test_a_command_waits_as_long_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    waits: list[float] = []
    asked = TransportLimits.__post_init__
    monkeypatch.setattr(TransportLimits, "__post_init__", lambda self: (waits.append(self.patience_s), asked(self))[1])
    monkeypatch.chdir(tmp_path)
    Path("texts.jsonl").write_text('{"question": "1 and 1?", "answer": "2", "text": "2"}\n')
    given = ["--base-url", SERVER, "--reasoning-url", "http://127.0.0.1:10", "--patience", "7.5"]
    assert main.run([*command.split(), *given]) == 4
    assert waits == [7.5]
    assert SERVER in capfd.readouterr().err


def test_what_is_sealed_is_read_without_the_file(tmp_path: Path) -> None:
    path = tmp_path / "store.duckdb"
    with Store.open(path) as store:
        store.add_problems([make_problem("p1")])
        store.begin_run(make_run("run-a", n_problems=1, samples_per_problem=1))
        store.write_samples([make_trace("run-a", "p1")])
        store.finish_run("run-a", "finished")
    sealing.seal(path, "run-a")
    path.write_bytes(b"written by another process")
    for how in ({"sealed": True}, {"snapshot": True}):
        with rr.open(path, **how) as read:
            assert [run for [run] in read.sql("SELECT run_id FROM runs").to_pandas().to_numpy()] == ["run-a"]
