"""Benchmarks by name: the shipped table, local files, the hub as `datasets` gives it, and no hub."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import datasets
import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.grading import load_grader
from rrti_sgl.problems import BENCHMARKS, Selection, load_problems
from rrti_sgl.prompts import TEMPLATES
from tests.conftest import SHARED_DATA
from tests.problems.excerpts import AMC23, GSM8K


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RRTI_PROBLEMS", str(tmp_path))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str | None, str], list[dict[str, Any]]]:
    """Rows by (dataset, configuration, split), given out as real `datasets.Dataset`s."""
    rows: dict[tuple[str, str | None, str], list[dict[str, Any]]] = {}

    def load_dataset(name: str, config: str | None = None, *, split: str) -> datasets.Dataset:
        return datasets.Dataset.from_list(rows[name, config, split])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return rows


def test_the_table_is_complete() -> None:
    assert set(BENCHMARKS) == {"gsm8k", "math500", "aime24", "aime25", "amc23", "olympiadbench", "gpqa-diamond"}
    for known in BENCHMARKS.values():
        assert known.count > 0
        assert known.licence
        assert known.hub.count("/") == 1
        assert {known.base_template, known.reasoning_template} <= set(TEMPLATES)
        assert load_grader(known.grader)


def test_gsm8k_from_the_hub_with_its_own_calibration_split(hub: dict[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    hub["openai/gsm8k", "main", "test"] = list(GSM8K)
    hub["openai/gsm8k", "main", "train"] = [{"question": f"Training question {i}?", "answer": f"#### {i}"} for i in range(9)]
    with caplog.at_level(logging.WARNING):
        test = load_problems("gsm8k", selection=Selection("evaluation"))
    assert "gsm8k has 4 problems here, not the 1319" in caplog.text
    train = load_problems("gsm8k", selection=Selection("calibration", limit=5))
    assert len(test.problems) == len(GSM8K)
    assert [problem.answer for problem in train.problems] == [f"#### {i}" for i in range(5)]
    assert (test.base_template, test.reasoning_template, test.max_new_tokens) == ("math@1", "chat-math@1", 8192)
    for problem in test.problems:
        assert test.grader.grade(problem, problem.answer or "").correct


def test_gpqa_puts_its_choices_into_an_order_that_does_not_change(hub: dict[Any, Any]) -> None:
    rows = [
        {
            "Question": f"Question {i}?",
            "Correct Answer": "right",
            "Incorrect Answer 1": "wrong",
            "Incorrect Answer 2": "false",
            "Incorrect Answer 3": "bad",
            "Record ID": str(i),
        }
        for i in range(40)
    ]
    hub["Idavidrein/gpqa", "gpqa_diamond", "train"] = rows
    loaded = load_problems("gpqa-diamond")
    assert {problem.answer for problem in loaded.problems} == set("ABCD")
    for problem in loaded.problems:
        assert f"({problem.answer}) right" in problem.question
        assert problem.metadata["choices"]["ABCD".index(problem.answer or "")] == "right"
        assert loaded.grader.grade(problem, f"... The answer is ({problem.answer})").correct
    hub["Idavidrein/gpqa", "gpqa_diamond", "train"] = rows[::-1]
    assert list(load_problems("gpqa-diamond").problems) == list(loaded.problems)[::-1]


def test_olympiadbench_answers_are_lists(hub: dict[Any, Any]) -> None:
    rows = [
        {"question": "Which?", "final_answer": ["$2$", "$-3$"]},
        {"question": "What?", "final_answer": ["$\\frac{1}{2}$"]},
    ]
    hub["Hothan/OlympiadBench", "OE_TO_maths_en_COMP", "train"] = rows
    loaded = load_problems("olympiadbench")
    assert [problem.answer for problem in loaded.problems] == ["2, -3", "\\frac{1}{2}"]
    assert loaded.grader.grade(loaded.problems[0], r"\boxed{-3} and \boxed{2}").correct
    assert not loaded.grader.grade(loaded.problems[0], r"\boxed{2}").correct


def test_a_local_file_is_taken_before_the_hub(tmp_path: Path) -> None:
    (tmp_path / "amc23.jsonl").write_text("".join(json.dumps(row) + "\n" for row in AMC23))
    loaded = load_problems("amc23")
    assert [problem.answer for problem in loaded.problems] == ["36.0", "27.0"]
    assert loaded.name == "amc23"


def test_parts_of_a_benchmark_without_a_calibration_split(tmp_path: Path) -> None:
    rows = [{"question": f"Question {i}?", "answer": i} for i in range(60)]
    (tmp_path / "amc23.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = [load_problems("amc23", selection=Selection(part)).problems for part in ("calibration", "evaluation")]
    taken = [{problem.problem_id for problem in part} for part in parts]
    assert not taken[0] & taken[1]
    assert len(taken[0] | taken[1]) == 60


def test_without_a_hub_the_error_says_which_file_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError) as refused:
        load_problems("gsm8k", selection=Selection("calibration"))
    assert "GSM8K cannot be loaded from the hub" in refused.value.message
    for part in (
        f"{tmp_path}/gsm8k-train.jsonl",
        "question, answer",
        "split 'train' of configuration 'main'",
        "openai/gsm8k",
    ):
        assert part in refused.value.remedy


def test_missing_fields_are_named(tmp_path: Path) -> None:
    (tmp_path / "math500.jsonl").write_text('{"question": "x", "answer": "1"}\n')
    with pytest.raises(UsageError, match=r"math500.jsonl, line 1: field 'problem' is missing.*\['answer', 'question'\]"):
        load_problems("math500")


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no problem sets at {SHARED_DATA}")
def test_published_files_have_the_number_of_problems_that_the_table_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("gsm8k", "amc23"):
        (tmp_path / f"{name}.jsonl").symlink_to(SHARED_DATA / f"{name}_test.jsonl")
        assert len(load_problems(name).problems) == BENCHMARKS[name].count
    assert not caplog.records


def test_a_grader_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "amc23.jsonl").write_text("".join(json.dumps(row) + "\n" for row in AMC23))
    assert load_problems("amc23", grader="last-number").grader.name == "last-number-v3"
    assert load_problems("amc23").grader.name.startswith("math-verify-v2+")
