"""`rrti runs`, `rrti samples` and `rrti compare`: what there is to choose from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import ReportContext
from rrti_sgl.programs.reporting.listing import SampleFilter, compare_runs, list_runs, list_samples
from rrti_sgl.programs.reporting.published import load_published
from rrti_sgl.programs.reporting.runs import select_runs
from rrti_sgl.programs.reporting.sections.directions import both_directions
from rrti_sgl.programs.tables.terminal import fitted
from tests.db.conftest import make_problem, make_run, make_trace


def rrti(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exception is None, done.exception
    return done.stdout


def test_runs_are_grouped_by_what_can_be_compared(tiny: Store) -> None:
    rollouts, compared = list_runs(tiny)
    assert rollouts.data["run_id"].to_pylist() == ["diagnose-1"]
    assert compared.data["run_id"].to_pylist() == ["base-1", "guided-1", "reasoning-1"]
    assert compared.data["accuracy"].to_pylist() == [0.25, 0.75, 1.0]
    assert compared.title == "4 problems of tiny, temperature 0.6"


def test_runs_without_samples_are_listed_too(tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store:
        with pytest.raises(UsageError, match="has no runs"):
            list_runs(store)
        store.begin_run(make_run("guided-1", program="guided"))
        [table] = list_runs(store)
    assert (table.title, table.data["run_id"].to_pylist(), table.data["run"].to_pylist()) == (
        "Without samples", ["guided-1"], ["guided"],
    )  # fmt: skip
    assert [column.name for column in fitted(table, 40).columns][:3] == ["run_id", "run", "status"]


def verdicts(store: Store, which: SampleFilter, *runs: str) -> dict[str, str]:
    rows: list[dict[str, Any]] = list_samples(store, runs, which).data.to_pylist()
    return {row["problem_id"]: row["verdict"] for row in rows}


def test_ungraded_samples_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store:
        store.add_problems([make_problem(f"p{i}") for i in range(3)])
        store.begin_run(make_run("guided-1"))
        store.write_samples([make_trace("guided-1", f"p{i}", correct=(True, False, None)[i]) for i in range(3)])
        assert [verdicts(store, SampleFilter(each)) for each in ("right", "wrong", "ungraded")] == [
            {"p0": "right"}, {"p1": "wrong"}, {"p2": "ungraded"},
        ]  # fmt: skip


def test_samples_are_filtered_and_set_against_the_base_run(tiny: Store) -> None:
    assert verdicts(tiny, SampleFilter(), "guided") == {"p0": "right", "p1": "put right", "p2": "wrong", "p3": "put right"}
    assert verdicts(tiny, SampleFilter(flipped=True), "guided") == {"p1": "put right", "p3": "put right"}
    assert verdicts(tiny, SampleFilter("wrong"), "guided") == {"p2": "wrong"}
    assert verdicts(tiny, SampleFilter("right", problem="p0"), "guided", "reasoning") == {"p0": "right"}
    assert set(verdicts(tiny, SampleFilter(takeovers=1))) == {"p0", "p1", "p2", "p3"}
    assert verdicts(tiny, SampleFilter(takeovers=3)) == {}
    limited = list_samples(tiny, which=SampleFilter(limit=3))
    assert (len(limited), limited.title) == (3, "3 of 16 samples")
    first = list_samples(tiny, ["guided"]).data.to_pylist()[0]
    assert (first["problem_id"], first["n_changed"]) == ("p1", 2), "the most changed tokens first"


def test_two_runs_side_by_side(tiny: Store) -> None:
    facts, difference, differing = compare_runs(tiny, "base", "guided")
    assert {row[""]: (row["first"], row["second"]) for row in facts.data.to_pylist()}["accuracy"] == ("25.0%", "75.0%")
    [row] = difference.data.to_pylist()
    assert (row["rose"], row["fell"], row["difference"]) == (2, 0, 0.5)
    assert {(row["problem_id"], row["verdict"]) for row in differing.data.to_pylist()} == {
        ("p1", "put right"), ("p3", "put right"),
    }  # fmt: skip
    spoilt = compare_runs(tiny, "guided", "base")[2].data["verdict"].to_pylist()
    assert spoilt == ["spoilt", "spoilt"]
    with pytest.raises(UsageError, match="the same run"):
        compare_runs(tiny, "guided", "guided-1")


def test_several_samples_of_a_problem_are_no_pairs(tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store:
        store.add_problems([make_problem(f"p{i}") for i in range(2)])
        for program, right in (("base", "0100"), ("guided", "1101")):
            store.begin_run(make_run(f"{program}-1", program=program, n_problems=2, samples_per_problem=2, temperature=0.8))
            store.write_samples(
                [make_trace(f"{program}-1", f"p{i // 2}", i % 2, [0.5], correct=flag == "1") for i, flag in enumerate(right)]
            )
        _, difference, moved = compare_runs(store, "base", "guided")
        assert difference.data["difference"].to_pylist() == [0.5]
        shares = [(row["problem_id"], row["first_right"], row["second_right"]) for row in moved.data.to_pylist()]
        assert shares == [("p0", 0.5, 1.0), ("p1", 0.0, 0.5)]
        with pytest.raises(UsageError, match="one sample of each"):
            list_samples(store, ["guided"], SampleFilter(flipped=True))
        assert set(list_samples(store, ["guided"]).data["verdict"].to_pylist()) == {"right", "wrong"}


def test_the_commands_fit_and_say_what_comes_next(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    db = ("--db", str(tiny_path))
    for arguments in (("runs",), ("samples",), ("samples", "guided", "--flipped"), ("compare", "base", "guided")):
        shown = rrti(*arguments, *db)
        lines = shown.splitlines()
        place = lines.index("Next:")
        assert all(line.startswith("  rrti ") and line.endswith(str(tiny_path)) for line in lines[place + 1 :])
        assert max(map(len, lines[:place])) <= 80
    sample = rrti("samples", "guided", *db).splitlines()[-1].split()[2]
    assert sample in rrti("show", sample, *db)
    assert [row["run_id"] for row in json.loads(rrti("runs", *db, "--json"))][-1] == "reasoning-1"
    assert len(json.loads(rrti("samples", "--limit", "2", *db, "--json"))) == 2
    assert set(json.loads(rrti("compare", "base", "guided", *db, "--json"))[0]) == {"compared", "difference", "differing"}
    assert CliRunner().invoke(app, ["samples", "--right", "--wrong", *db]).exception is not None


def test_runs_in_exchanged_roles_are_a_group_whose_ends_are_the_other_direction(tiny_path: Path, tmp_path: Path) -> None:
    """And the report shows both directions side by side, each from its writer alone to its guest alone."""
    path = tmp_path / "both.duckdb"
    path.write_bytes(tiny_path.read_bytes())
    models = {"base_model": "reasoning", "reasoning_model": "base", "config": {"exchanged": True}}
    with Store.open(path) as store:
        store.begin_run(make_run("other-1", n_problems=4, samples_per_problem=1, gate="divergence", **models))
        fired = {"fired": np.arange(12) < 3}
        flags = zip(range(4), "1100", strict=True)
        store.write_samples(
            [make_trace("other-1", f"p{i}", 0, np.ones(12), correct=f == "1", tokens=fired) for i, f in flags]
        )
        here, there = select_runs(store).comparisons
        assert (there.runs, there.base, there.reasoning) == (["other-1"], "reasoning-1", "base-1")
        assert there.labels["other-1"] == "guided exchanged τ=0.5"
        assert here.name != there.name
        assert list_runs(store)[-1].title == "4 problems of tiny, temperature 0.6, exchanged roles"
        [(table, drawing)] = both_directions(ReportContext(TokenReader(store), select_runs(store), load_published()))
    rows = [(row["writes"], row["run_id"], row["rho_pooled"], row["recovery_accuracy"]) for row in table.data.to_pylist()]
    assert [row[:2] for row in rows] == [
        *(("base", f"{program}-1") for program in ("base", "guided", "reasoning")),
        *(("reasoning", run) for run in ("reasoning-1", "other-1", "base-1")),
    ]
    assert [row[2:] for row in rows[3:]] == [(0, 0), (0.25, pytest.approx(2 / 3)), (1, 1)]
    assert drawing.files["png"]
