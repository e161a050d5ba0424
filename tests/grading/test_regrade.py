"""Grading stored runs again."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db import sealing
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, UsageError
from rrti_sgl.grading import load_grader
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.preconditions import calibrated_on, check_disjoint, check_gold
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.regrade import regrade
from rrti_sgl.records import ProblemRecord
from tests.db.conftest import make_calibration, make_run, make_trace

PROBLEMS = [ProblemRecord(f"p{i}", "tiny", f"question {i}", gold) for i, gold in enumerate(("1/2", "3", "x^2", None))]
# text of one sample of each problem, whether "last number" and whether mathematics takes it for right
SAMPLES = [
    (r"so it is \boxed{0.5}", False, True, "stop"),
    ("so 3\nQuestion: what is 4?", False, True, "stop"),
    ("$x \\cdot x$ and then", False, True, "length"),
    (r"\boxed{7}", None, None, "length"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "traces.duckdb"
    settings = RunSettings("guided", "tiny.jsonl")
    from rrti_sgl.prompts import TEMPLATES

    settings = replace(settings, base_prompt=TEMPLATES["question-answer@1"], reasoning_prompt=TEMPLATES["chat@1"])
    config = json.loads(json.dumps({"kind": "run", **settings.to_dict()}))
    with Store.open(path) as store:
        store.add_problems(PROBLEMS)
        store.begin_run(make_run("r1", config=config, grader="last-number-v1"))
        traces = []
        for index, (text, correct, _, finish) in enumerate(SAMPLES):
            trace = make_trace("r1", f"p{index}", 0)
            sample = replace(trace.sample, text=text, correct=correct, answer="?", finish_reason=finish)
            traces.append(replace(trace, sample=sample))
        store.write_samples(traces)
        store.finish_run("r1", "finished")
    return path


def grades(path: Path) -> list[tuple[str | None, bool | None]]:
    with Store.open_readonly(path) as store:
        rows = store.sql("SELECT answer, correct FROM samples ORDER BY problem_id").to_pylist()
    return [(row["answer"], row["correct"]) for row in rows]


def test_regrading_replaces_the_grades_and_says_what_was_before(path: Path) -> None:
    with Store.open(path) as store:
        result = regrade(store, "r1", "math-verify")
        run = store.get_run("r1")
    assert grades(path) == [("0.5", True), ("3", True), (r"x \cdot x", True), ("7", None)]
    with Store.open_readonly(path) as store:
        methods = store.sql("SELECT answer_method FROM samples").column(0).to_pylist()
    assert sorted(methods) == ["boxed", "boxed", "last-expression", "last-expression, cut at a stop string"]
    assert run.grader.startswith("math-verify-v2+")
    assert run.config["grader"] == "math-verify"
    assert [entry["grader"] for entry in run.config["regraded"]] == ["last-number-v1"]
    assert RunSettings.from_dict(run.config).grader == "math-verify"
    assert result.methods == {"boxed": 2, "last-expression": 1, "last-expression, cut at a stop string": 1}
    summary = result.summary()
    counts = {name: summary[name] for name in ("samples", "graded", "right", "became_right", "became_wrong", "no_answer")}
    assert counts == {"samples": 4, "graded": 3, "right": 3, "became_right": 3, "became_wrong": 0, "no_answer": 0}
    assert (summary["accuracy"], summary["truncated"], summary["truncated_right"]) == (1.0, 2, 1)


def test_graders_before_are_remembered_in_order(path: Path) -> None:
    with Store.open(path) as store:
        regrade(store, "r1", "math-verify")
        result = regrade(store, "r1", "last-number")
        regraded = store.get_run("r1").config["regraded"]
    assert [entry["grader"].partition("+")[0] for entry in regraded] == ["last-number-v1", "math-verify-v2"]
    assert result.summary()["became_wrong"] == 2  # the two that are no plain numbers


def test_a_dry_run_stores_nothing(path: Path) -> None:
    before = grades(path)
    result = CliRunner().invoke(app, ["grade", "r1", "--grader", "math-verify", "--dry-run", "--json", "--db", str(path)])
    assert result.exit_code == 0, result.output
    [row] = json.loads(result.stdout)
    assert row["became_right"] == 3
    assert [sample["problem_id"] for sample in row["changed"]] == ["p0", "p1", "p2"]
    assert grades(path) == before


def test_the_command_prints_and_stores(path: Path) -> None:
    result = CliRunner().invoke(app, ["grade", "guided", "--grader", "math-verify", "--db", str(path)])
    assert result.exit_code == 0, result.output
    assert "truncated_right" in result.stdout
    assert "last-expression" in result.stdout
    assert [correct for _, correct in grades(path)] == [True, True, True, None]


@pytest.mark.parametrize(
    ("change", "grader", "match"),
    [
        ({"status": "failed"}, "math-verify", "is failed"),
        ({"config": '{"kind": "counterfactual"}'}, "math-verify", "is a counterfactual"),
        ({}, "nothing", "is unknown"),
        ({}, "choice", "is none of A"),
    ],
)
def test_what_cannot_be_graded_changes_nothing(path: Path, change: dict[str, str], grader: str, match: str) -> None:
    with Store.open(path) as store:
        for name, value in change.items():
            query = f"UPDATE runs SET {name} = $value WHERE run_id = 'r1'"
            with store.writing() as cursor:
                cursor.execute(query, {"value": value})
        with pytest.raises(UsageError, match=match):
            regrade(store, "r1", grader)
        assert store.get_run("r1").grader == "last-number-v1"
    assert grades(path) == [("?", correct) for _, correct, _, _ in SAMPLES]


def test_a_sealed_run_keeps_its_grades_until_it_is_unsealed(path: Path) -> None:
    sealing.seal(path, "r1")
    with Store.open(path) as store:
        assert regrade(store, "r1", "math-verify", keep=True).summary()["became_right"] == 3
        with pytest.raises(StoreError, match=r"r1 is sealed.*rrti db unseal r1"):
            regrade(store, "r1", "math-verify")
        assert store.get_run("r1").grader == "last-number-v1"
    assert grades(path) == [("?", correct) for _, correct, _, _ in SAMPLES]
    sealing.unseal(path, "r1")
    with Store.open(path) as store:
        regrade(store, "r1", "math-verify")
    sealing.seal(path, "r1")
    assert [correct for _, correct in grades(path)] == [True, True, True, None]


# -- what is checked before a run ---------------------------------------------------------------------------------


def test_a_calibration_on_evaluated_problems_is_refused(path: Path) -> None:
    with Store.open(path) as store:
        calibration = make_calibration("cal1", run_id="r1")
        apart = ProblemSet("tiny", [ProblemRecord("p9", "tiny", "question 9", "1")], load_grader("last-number"))
        used = calibrated_on(store, calibration)
        check_disjoint(used, apart, "calibration cal1")
        more = replace(apart, problems=[*apart.problems, PROBLEMS[1], PROBLEMS[2]])
        with pytest.raises(UsageError, match=r"2 of 3 problems of tiny were used by calibration cal1.*p1"):
            check_disjoint(used, more, "calibration cal1")


def test_gold_answers_that_only_text_can_be_compared_with_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    known = [ProblemRecord(f"p{i}", "tiny", f"question {i}", gold) for i, gold in enumerate(["1", "\\frac{", "x^2"] * 4)]
    with caplog.at_level(logging.WARNING):
        check_gold(ProblemSet("tiny", known, load_grader("math-verify")))
    [record] = caplog.records
    assert "compares 4 of 12 gold answers as text: p1 '\\\\frac{'; p4 " in record.message
    caplog.clear()
    check_gold(ProblemSet("tiny", known, load_grader("last-number")))
    assert "compares 4 of 12 gold answers as text: p1 " in caplog.text
    with pytest.raises(UsageError, match="Problem p1: the gold answer"):
        check_gold(ProblemSet("tiny", known[1:], load_grader("choice")))
