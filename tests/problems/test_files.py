"""Problem sets from JSONL, Parquet and CSV files."""

from __future__ import annotations

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rrti_sgl.errors import ProblemFileError, UsageError
from rrti_sgl.problems import GivenRows, load_problems
from tests.conftest import SHARED_DATA

ROWS = [{"q": f"question {i}, of {i}", "a": str(i), "level": "easy"} for i in range(5)]


def write(folder: Path, ending: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"set{ending}"
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == ".csv":
        lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_format_gives_the_same_problems(tmp_path: Path) -> None:
    loaded = [
        load_problems(str(write(tmp_path, ending, ROWS)), question_field="q", answer_field="a").problems
        for ending in (".jsonl", ".parquet", ".csv")
    ]
    assert loaded[0] == loaded[1] == loaded[2]
    assert [problem.question for problem in loaded[0]] == [row["q"] for row in ROWS]
    assert loaded[0][3].answer == "3"
    assert loaded[0][3].metadata == {"level": "easy"}


def test_missing_answers_and_further_fields_as_pandas_writes_them(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "question": ["a?", "b?", "c?"],
            "answer": [18, None, 3],
            "when": pd.to_datetime(["2026-01-02"] * 3),
            "share": [0.5, None, 1.0],
        }
    )
    frame.to_parquet(tmp_path / "set.parquet")
    problems = load_problems(str(tmp_path / "set.parquet")).problems
    assert [problem.answer for problem in problems] == ["18.0", None, "3.0"]
    assert problems[1].metadata == {"when": "2026-01-02T00:00:00", "share": None}
    (tmp_path / "set.jsonl").write_text('{"question": "a?", "answer": null}\n{"question": "b?", "answer": " "}\n')
    assert [problem.answer for problem in load_problems(str(tmp_path / "set.jsonl")).problems] == [None, None]


@pytest.mark.parametrize("answer", ["NaN", "Infinity", "-Infinity", "1e400", "[1, NaN]"])
def test_a_gold_answer_is_a_number_or_none(tmp_path: Path, answer: str) -> None:
    lines = ['{"question": "a?", "answer": 1}', f'{{"question": "b?", "answer": {answer}}}']
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    with pytest.raises(ProblemFileError, match=r"set.jsonl, line 2: field 'answer' is \S.*, no answer") as refused:
        load_problems(str(tmp_path / "set.jsonl"))
    assert "Write null" in refused.value.remedy


def test_everything_wrong_with_a_file_is_told_at_once(tmp_path: Path) -> None:
    lines = ['{"question": "a?"}', '{"question": NaN}', "{", '{"question": "so 9 \\ud83d"}', "7"]
    (tmp_path / "set.jsonl").write_text("\n".join(lines))
    with pytest.raises(ProblemFileError) as refused:
        load_problems(str(tmp_path / "set.jsonl"))
    for part in (
        "4 problems",
        "line 2: field 'question'",
        "line 3: no valid",
        "line 4: field 'question' has half",
        "line 5: a int",
    ):
        assert part in refused.value.message
    assert "question_field=" in refused.value.remedy


def test_fields_within_others_and_compressed_sets(tmp_path: Path) -> None:
    row = {"doc": {"problem": "a?", "gold": ["$2$", "$-3$"]}}
    (tmp_path / "mine.jsonl.gz").write_bytes(gzip.compress(json.dumps(row).encode()))
    loaded = load_problems(str(tmp_path / "mine.jsonl.gz"), question_field="doc.problem", answer_field="doc.gold")
    assert (loaded.name, loaded.problems[0].question, loaded.problems[0].answer) == ("mine", "a?", "2, -3")


def test_ids_depend_on_the_question_alone(tmp_path: Path) -> None:
    first = load_problems(str(write(tmp_path, ".jsonl", [*ROWS, ROWS[1]])), question_field="q", answer_field="a").problems
    changed = [{**row, "a": "?"} for row in reversed(ROWS)]
    second = load_problems(str(write(tmp_path, ".jsonl", changed)), question_field="q", answer_field="a").problems
    assert [problem.problem_id for problem in first] == [problem.problem_id for problem in reversed(second)]
    assert len({problem.problem_id for problem in first}) == len(ROWS)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "holds no problem"),
        (b'{"question": "x"}\n{"question": \n', "line 2: no valid JSON"),
        (b'{"question": "x"}\n[1]\n', "line 2: a list"),
        (b'{"problem": "x", "gold": 1}\n', r"line 1: field 'question' is missing.*\['gold', 'problem'\]"),
        (b'{"question": "  "}\n', "line 1: field 'question'"),
        (b'{"question": "\xff"}\n', "line 1: not UTF-8"),
        (b'{"question": "x", "answer": {"value": 1}}\n', r"line 1: .*'answer' is an object.*answer_field='answer\.value'"),
    ],
    ids=["empty", "broken", "a list", "other fields", "blank", "encoding", "an object"],
)
def test_a_malformed_file_names_the_line(tmp_path: Path, content: bytes, match: str) -> None:
    file = tmp_path / "set.jsonl"
    file.write_bytes(content)
    with pytest.raises(ProblemFileError, match=match):
        load_problems(str(file))


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("set.csv", b"question,answer\nx,1\ny,1,2\n", "line 3: not 2 fields"),
        ("set.csv", b"question,answer\nx\n", "line 2: not 2 fields"),
        ("set.csv", b"problem,answer\nx,1\n", "line 2: field 'question' is missing"),
        ("set.csv", b"question,answer\n\xff,1\n", "not UTF-8"),
        ("set.parquet", b"no parquet", "is no Parquet file"),
    ],
)
def test_malformed_tables(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(ProblemFileError, match=match):
        load_problems(str(file))


@pytest.mark.parametrize("answer", ["b", "cod", 1, "1", 1.0])
def test_multiple_choice(tmp_path: Path, answer: object) -> None:
    row = {"question": "Which is a fish?", "choices": ["crow", "cod", "cow"], "answer": answer}
    loaded = load_problems(str(write(tmp_path, ".jsonl", [row])), choices_field="choices")
    [problem] = loaded.problems
    assert problem.question == "Which is a fish?\n\n(A) crow\n(B) cod\n(C) cow"
    assert problem.answer == "B"
    assert loaded.grader.name.startswith("choice")
    assert loaded.grader.grade(problem, "So the answer is (B).").correct


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"question": "x", "choices": ["one"], "answer": 0}, "no list of 2 to 10 choices"),
        ({"question": "x", "choices": "A B C", "answer": 0}, "no list of 2 to 10 choices"),
        ({"question": "x", "choices": ["y", "z"], "answer": "C"}, "no letter, text or index of its 2 choices"),
        ({"question": "x", "choices": ["y", "z"], "answer": 2}, "no letter, text or index of its 2 choices"),
        ({"question": "x", "choices": ["y", "z"], "answer": "\u00b9"}, "'\u00b9' is no letter, text or index"),
        ({"question": "x", "choices": ["y", "z"], "answer": "1" * 5000}, "1' is no letter, text or index"),
    ],
)
def test_choices_that_do_not_fit(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    with pytest.raises(ProblemFileError, match=match):
        load_problems(str(write(tmp_path, ".jsonl", [row])), choices_field="choices")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ("so 9 \ud83d", "row 2: field 'x' has half a character"),
        (functools.reduce(lambda inner, _: [inner], range(150), 1), "row 2: cannot be read .more than 100 levels"),
        (functools.reduce(lambda inner, _: [inner], range(2000), 1), "problems= holds what is no JSON"),
        (10**5000, "problems= holds what is no JSON"),
    ],
    ids=["half", "deep", "too deep", "long"],
)
def test_rows_in_memory_that_cannot_be_kept(value: object, match: str) -> None:
    row = {"question": "x", "answer": "1"}
    with pytest.raises(UsageError, match=match):
        load_problems("", rows=GivenRows.of([row, row | {"x": value}]))


def test_unknown_sets_name_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"world:heldout.*gsm8k.*gpqa-diamond"):
        load_problems("nowhere.jsonl")


def test_world_splits_share_no_problem() -> None:
    heldout, calibration = (load_problems(f"world:{split}", limit=200) for split in ("heldout", "calibration"))
    ids = {problem.problem_id for problem in heldout.problems}
    assert len(ids) == 200
    assert not ids & {problem.problem_id for problem in calibration.problems}
    assert heldout.planted is not None


@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason=f"no problem sets at {SHARED_DATA}")
@pytest.mark.parametrize(("name", "count"), [("gsm8k_test", 1319), ("amc23_test", 40)])
def test_published_sets_with_the_default_grader(name: str, count: int) -> None:
    loaded = load_problems(str(SHARED_DATA / f"{name}.jsonl"))
    assert len(loaded.problems) == count
    for problem in loaded.problems:
        grade = loaded.grader.grade(problem, problem.answer or "")
        assert grade.correct
        assert not loaded.grader.grade(problem, f"{float(grade.answer or 0) + 1}").correct
