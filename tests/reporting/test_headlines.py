"""`rrti stats NAME`: one table that fits a terminal of 80 columns and a screen, and every row for a program."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.headlines import HEADLINES, everything, headline
from rrti_sgl.programs.tables.table import Column, rows_table
from rrti_sgl.programs.tables.terminal import fitted

LACKING = ("metrics", "reallocation", "planted", "causality", "pivotal", "calibration")  # what the tiny store has nothing of


def test_every_statistic_has_a_headline() -> None:
    assert [*HEADLINES] == [*QUERIES]


@pytest.mark.parametrize("name", [name for name in QUERIES if name not in LACKING])
def test_a_headline_fits_a_terminal_and_its_rows_can_be_told_apart(
    name: str, tiny_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = CliRunner().invoke(app, ["stats", name, "--db", str(tiny_path), "--format", "table"])
    assert done.exception is None, done.exception
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) < 40
    assert QUERIES[name].question.split()[0] in lines[0]
    rows = lines[next(place for place, line in enumerate(lines) if "───" in line) + 1 :]
    rows = [line for line in rows if line.startswith(" ") and line.strip()]
    assert len(rows) == len(set(rows)) > 0
    assert sum("───" in line for line in lines) == 1, "one block, not cut in two"


def test_headlines_hold_the_numbers_of_their_statistic(tiny: Store) -> None:
    [table] = headline(tiny, "sparsity", ["diagnose"], metric="ce", carried=[0.5])
    [row] = table.data.to_pylist()
    values = {r["statistic"]: r["value"] for r in run_query(tiny, "sparsity", run="diagnose", metric="ce").to_pylist()}
    assert row["gini"] == values["gini"]
    assert (
        row["carrying 0.5"]
        == run_query(tiny, "sparsity", run="diagnose", metric="ce", carried=[0.5]).to_pylist()[1]["value"]
    )
    [flips] = headline(tiny, "flips")
    assert [(r["run"].split()[0], r["rose"], r["fell"]) for r in flips.data.to_pylist()] == [
        ("guided", 2, 0), ("reasoning", 3, 0),
    ]  # fmt: skip
    [accuracy] = headline(tiny, "accuracy")
    assert {r["run"].split()[0]: r["recovery_accuracy"] for r in accuracy.data.to_pylist()}["guided"] == pytest.approx(2 / 3)


def test_flips_and_ablation_need_no_run(tiny: Store) -> None:
    assert everything(tiny, "flips")["base_run_id"].to_pylist() == ["base-1", "base-1"]
    assert set(everything(tiny, "ablation")["run_id"].to_pylist()) == {"base-1", "guided-1", "reasoning-1"}


def test_off_a_terminal_there_is_a_row_a_line(tiny_path: Path) -> None:
    command = ["stats", "sparsity", "--db", str(tiny_path)]
    shown = CliRunner().invoke(app, command).stdout
    rows = list(csv.DictReader(io.StringIO(shown), delimiter="\t"))
    named = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert len(rows) == len(named) > 40
    assert [(r["run_id"], float(r["value"])) for r in rows] == [(r["run_id"], r["value"]) for r in named]
    assert CliRunner().invoke(app, [*command, "--format", "csv"]).stdout.count("\n") == len(rows) + 1
    full = CliRunner().invoke(app, [*command, "--format", "table", "--full"]).stdout
    assert {"diagnose-1", "base-1", "guided-1"} <= set(re.findall(r"\w+-1", full)), "every run, not the base rollouts alone"


def test_a_table_without_room_names_what_it_leaves_out() -> None:
    table = rows_table(
        "t",
        [{"run": "a" * 20, "first": 1, "second": 2, "third": 3}],
        [Column("run"), *map(Column, ("first", "second", "third"))],
    )
    assert fitted(table, 80) is table
    narrow = fitted(table, 36)
    assert [column.name for column in narrow.columns] == ["run", "first"]
    assert narrow.notes == ["In a wider terminal also: second, third."]


def test_what_no_run_has_is_said(tiny: Store) -> None:
    with pytest.raises(UsageError, match=re.escape("causality")):
        headline(tiny, "causality")
