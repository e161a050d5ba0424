"""Problem sets from files and from the world, and the grader for files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rrti_sgl.errors import ProblemFileError, UsageError
from rrti_sgl.problems import LastNumberGrader, load_problems
from rrti_sgl.records import ProblemRecord
from tests.conftest import SHARED_DATA


def problem(answer: str | None) -> ProblemRecord:
    return ProblemRecord("id", "set", "question", answer)


@pytest.mark.parametrize(
    ("gold", "text", "answer", "correct"),
    [
        ("18", "She has 3, so 3 * 6 = 18.", "18", True),
        ("some work\n#### 1,200", "that is 1200 dollars", "1200", True),
        ("27.0", r"we get \boxed{27}", "27", True),
        ("27.0", r"2 \boxed{28} 27", "28", False),
        ("-3", "the answer is -3", "-3", True),
        ("4", "no number at all", None, False),
        (None, "it is 7", "7", None),
    ],
)
def test_last_number_grader(gold: str | None, text: str, answer: str | None, correct: bool | None) -> None:
    assert LastNumberGrader().grade(problem(gold), text) == (answer, correct)


def test_ids_depend_on_the_question_alone(tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text("".join(json.dumps({"q": f"question {i}", "a": i}) + "\n" for i in (1, 2, 1)) + "\n")
    loaded = load_problems(str(file), question_field="q", answer_field="a")
    assert [p.question for p in loaded.problems] == ["question 1", "question 2"]
    assert [p.answer for p in loaded.problems] == ["1", "2"]
    assert len({p.problem_id for p in loaded.problems}) == 2


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "holds no problem"),
        (b'{"question": "x"}\n{"question": \n', "line 2: no valid JSON"),
        (b'{"question": "x"}\n[1]\n', "line 2: a list"),
        (b'{"problem": "x", "gold": 1}\n', r"line 1: field 'question' is missing.*\['gold', 'problem'\]"),
        (b'{"question": "  "}\n', "line 1: field 'question'"),
        (b'{"question": "\xff"}\n', "line 1: not UTF-8"),
    ],
    ids=["empty", "broken", "a list", "other fields", "blank", "encoding"],
)
def test_a_malformed_file_names_the_line(tmp_path: Path, content: bytes, match: str) -> None:
    file = tmp_path / "set.jsonl"
    file.write_bytes(content)
    with pytest.raises(ProblemFileError, match=match):
        load_problems(str(file))


@pytest.mark.parametrize(("source", "limit"), [("nowhere.jsonl", None), ("world:heldout", 0)])
def test_unknown_sets_and_bad_limits(source: str, limit: int | None) -> None:
    with pytest.raises(UsageError):
        load_problems(source, limit=limit)


def test_world_splits_share_no_problem() -> None:
    heldout, calibration = (load_problems(f"world:{split}", limit=200) for split in ("heldout", "calibration"))
    ids = {p.problem_id for p in heldout.problems}
    assert len(ids) == 200
    assert not ids & {p.problem_id for p in calibration.problems}


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no problem sets at {SHARED_DATA}")
@pytest.mark.parametrize(("name", "count"), [("gsm8k_test", 1319), ("amc23_test", 40)])
def test_published_sets_load_and_their_gold_answers_grade_right(name: str, count: int) -> None:
    loaded = load_problems(str(SHARED_DATA / f"{name}.jsonl"))
    assert len(loaded.problems) == count
    graded = [loaded.grader.grade(p, p.answer or "")[1] for p in loaded.problems]
    assert all(graded)
    wrong = [
        loaded.grader.grade(p, f"{float(loaded.grader.grade(p, p.answer or '')[0] or 0) + 1}")[1] for p in loaded.problems
    ]
    assert not any(wrong)
