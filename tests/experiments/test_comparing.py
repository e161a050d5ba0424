"""Finished experiments side by side: what stands in each folder, in one table for each problem set."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app, run
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, UsageError
from rrti_sgl.programs.experiments.finished import RECORD, STORE, FinishedEvaluation, FinishedExperiment
from rrti_sgl.programs.experiments.results import compared_tables
from tests.statistics.conftest import make_trace, write_run

PROGRAMS = {"base": "base", "reasoning": "reasoning", "guided r=0.08": "guided"}


def finished(folder: Path, title: str, right: Mapping[str, str], problems: str = "gsm8k") -> Path:
    """An experiment of one evaluation, whose runs have a sample of five tokens for each problem."""
    folder.mkdir(parents=True)
    runs = {}
    with Store.open(folder / STORE) as store:
        for label, flags in right.items():
            run_id = f"{PROGRAMS[label]}-{folder.name}"
            fired = np.array([True, False, False, False, False]) & (label == "guided r=0.08")
            traces = [
                make_trace(run_id, f"p{i}", 0, np.arange(5.0), correct=flag == "1", tokens={"fired": fired})
                for i, flag in enumerate(flags)
            ]
            write_run(store, run_id, traces, program=PROGRAMS[label])
            runs[label] = run_id
    evaluation = FinishedEvaluation(problems, problems, 1, (0,), runs)
    FinishedExperiment(title, {"base": "B", "reasoning": f"R{title}"}, "reasoning", [evaluation]).write(folder)
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    small = finished(tmp_path / "small", "Small", {"base": "0100", "reasoning": "1111", "guided r=0.08": "0110"})
    large = finished(tmp_path / "large", "Large", {"base": "0000", "guided r=0.08": "1000", "reasoning": "1110"})
    return [small, large]


def test_runs_of_one_label_stand_beside_each_other(two: list[Path]) -> None:
    [table] = compared_tables(two)
    assert table.title == "gsm8k: 4 problems"
    found = {(row["run"], row["experiment"]): row for row in table.data.to_pylist()}
    assert list(found) == [(label, name) for label in ("base", "reasoning", "guided r=0.08") for name in ("small", "large")]
    assert {key: row["accuracy"] for key, row in found.items() if key[0] == "guided r=0.08"} == {
        ("guided r=0.08", "small"): 0.5,
        ("guided r=0.08", "large"): 0.25,
    }
    recovery = [found["guided r=0.08", name]["recovery_accuracy"] for name in ("small", "large")]
    assert recovery == pytest.approx([1 / 3, 1 / 3])  # each on the way of its own experiment
    assert found["guided r=0.08", "large"]["rho"] == pytest.approx(0.2)
    assert "large: Large (base B, reasoning RLarge)." in table.notes


def test_problem_sets_have_tables_of_their_own_and_no_run_is_left_out(tmp_path: Path, two: list[Path]) -> None:
    other = finished(tmp_path / "more" / "small", "Other", {"base": "01"}, "math500")
    tables = compared_tables([*two, other])
    assert [table.title for table in tables] == ["gsm8k: 4 problems", "math500: 2 problems"]
    assert [len(table) for table in tables] == [6, 1]
    assert {row["experiment"] for row in tables[0].data.to_pylist()} == {str(two[0]), "large"}  # two are called small


def test_how_many_problems_there_were_is_a_column_where_it_differs(tmp_path: Path, two: list[Path]) -> None:
    [table] = compared_tables([two[0], finished(tmp_path / "few", "Few", {"base": "01"})])
    assert table.title == "gsm8k"
    assert [row[2] for row in table.cells] == ["4", "2", "4", "4"]


def test_the_command_prints_one_table_that_fits(two: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = CliRunner().invoke(app, ["experiment", "compare", *map(str, two)])
    assert shown.exit_code == 0, shown.output
    assert max(map(len, shown.stdout.splitlines())) <= 80
    assert shown.stdout.count("guided r=0.08") == 2  # in one part
    told = CliRunner().invoke(app, ["experiment", "compare", *map(str, two), "--json"])
    [table] = json.loads(told.stdout)
    assert [row["n_problems"] for row in table["rows"]] == [4] * 6


def test_what_cannot_be_compared_is_named(tmp_path: Path, two: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        compared_tables(two[:1])
    with pytest.raises(UsageError, match="of which 1 differ"):
        compared_tables([two[0], two[0] / "." / ".." / "small"])
    with pytest.raises(UsageError, match=r"nowhere has no experiment\.json"):
        compared_tables([two[0], tmp_path / "nowhere"])
    (two[1] / RECORD).write_text('{"title": "x", "models": {}, "upper": "both", "evaluations": []}')
    with pytest.raises(StoreError, match=r"large/experiment\.json cannot be read: upper: "):
        compared_tables(two)
    assert run(["experiment", "demo", str(two[0])]) == UsageError.exit_code
    assert "rrti experiment compare" in capsys.readouterr().err
