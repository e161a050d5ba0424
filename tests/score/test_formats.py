"""Every format of given texts, from a small file to records, and everything that may be wrong with one."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts import GivenText, TextFields, read_texts
from rrti_sgl.given_texts.reading import detect
from rrti_sgl.rows import Complaints


def jsonl(folder: Path, *rows: Any, name: str = "texts.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def without_place(texts: list[GivenText]) -> list[tuple[object, ...]]:
    return [text.content for text in texts]


def given(continuation: object, question: str | None = None, **values: Any) -> tuple[object, ...]:
    names = ("problem_id", "base_prompt", "reasoning_prompt")
    return question, *(values.get(name) for name in names), continuation, values.get("answer"), values.get("finish_reason")


# -- JSON Lines and Parquet -----------------------------------------------------------------------------------------

ROWS = [
    {"question": "1 + 1?", "text": " 2", "answer": 2, "finish_reason": "eos"},
    {"question": "1 + 2?", "text": " 3", "token_ids": [5, 6], "finish_reason": "max_tokens"},
    {"prompt": "Q: x\nA:", "reasoning_prompt": "<x>", "token_ids": [7]},
    {"problem_id": "ab12", "text": " y", "answer": ["3", "4"]},
]
READ = [
    given(" 2", "1 + 1?", answer="2", finish_reason="stop"),
    given([5, 6], "1 + 2?", finish_reason="length"),
    given([7], "Q: x\nA:", base_prompt="Q: x\nA:", reasoning_prompt="<x>"),
    given(" y", problem_id="ab12", answer="3, 4"),
]


def test_json_lines(tmp_path: Path) -> None:
    texts = read_texts(jsonl(tmp_path, ROWS[0], "", *ROWS[1:]))
    assert without_place(texts) == READ
    assert [text.place.rpartition(", ")[2] for text in texts] == ["line 1", "line 3", "line 4", "line 5"]


def test_parquet(tmp_path: Path) -> None:
    rows = [{**row, "answer": None if row.get("answer") is None else str(row["answer"])} for row in ROWS[:3]]
    pq.write_table(
        pa.Table.from_pylist([{name: row.get(name) for name in {**ROWS[2], **ROWS[1]}} for row in rows]),
        tmp_path / "t.parquet",
    )
    texts = read_texts(tmp_path / "t.parquet")
    assert [text.continuation for text in texts] == [" 2", (5, 6), (7,)]
    assert [text.finish_reason for text in texts] == ["stop", "length", None]
    assert texts[2].place == f"{tmp_path / 't.parquet'}, row 3"


def test_csv_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("question,text,answer,finish_reason\r\n1 + 1?, 2,2,stop\r\nx?,y,,\r\n")
    expected = [given(" 2", "1 + 1?", answer="2", finish_reason="stop"), given("y", "x?")]
    assert without_place(read_texts(tmp_path / "texts.csv")) == expected
    packed = gzip.compress(json.dumps(ROWS[0]).encode("utf-16"))
    (tmp_path / "texts.jsonl.gz").write_bytes(packed)
    assert without_place(read_texts(tmp_path / "texts.jsonl.gz")) == READ[:1]
    (tmp_path / "texts.json").write_text(json.dumps(ROWS))
    assert without_place(read_texts(tmp_path / "texts.json")) == READ


def test_what_pandas_writes_for_missing_values(tmp_path: Path) -> None:
    row = {"question": "q", "text": "t", "answer": float("nan"), "finish_reason": float("nan"), "problem_id": float("nan")}
    ids = {"question": "q", "token_ids": [1.0, 2.0], "answer": 18, "text": float("nan")}
    assert without_place(read_texts(jsonl(tmp_path, row, ids))) == [given("t", "q"), given([1, 2], "q", answer="18")]


def test_a_conversation_is_the_prompt(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "u?"}]}]
    [text] = read_texts(jsonl(tmp_path, {"conversation": turns, "text": "t"}))
    assert (text.question, text.conversation) == ("u?", (("system", "s"), ("user", "u?")))
    assert text.content[-1] == [["system", "s"], ["user", "u?"]]


def test_rows_that_are_left_out_do_not_refuse_the_others(tmp_path: Path) -> None:
    skipped = Complaints()
    texts = read_texts(jsonl(tmp_path, ROWS[0], "{oops", {"question": "q"}, ROWS[1]), skipped=skipped)
    assert without_place(texts) == READ[:2]
    assert [place.rpartition(", ")[2] for place in skipped.places] == ["line 2", "line 3"]
    with pytest.raises(UsageError, match=r"2 problems; nothing was scored"):
        read_texts(jsonl(tmp_path, "{oops", {"question": "q"}), skipped=Complaints())


def test_several_continuations_of_a_row_keep_their_order_and_end(tmp_path: Path) -> None:
    row = {"question": "q", "text": ["a", "b"], "finish_reason": ["stop", "length"]}
    assert without_place(read_texts(jsonl(tmp_path, row, {"question": "q", "token_ids": [[1], [2, 3]]}))) == [
        given("a", "q", finish_reason="stop"),
        given("b", "q", finish_reason="length"),
        given([1], "q"),
        given([2, 3], "q"),
    ]


def test_fields_of_other_names_and_inside_others(tmp_path: Path) -> None:
    row = {"input": {"q": "how?"}, "outputs": [{"text": "so", "why": "stop"}], "gold.value": "7"}
    names = {"question": "input.q", "text": "outputs.0.text", "finish_reason": "outputs.0.why", "answer": "gold.value"}
    texts = read_texts(jsonl(tmp_path, row), names=TextFields.of(names))
    assert without_place(texts) == [given("so", "how?", answer="7", finish_reason="stop")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{oops", "no valid JSON"),
        ("[1, 2]", "a list, not an object"),
        ({"question": "q"}, r"there is no text and no token_ids; fields there: \['question'\]"),
        ({"text": "t"}, r"there is no question, prompt or problem_id; fields there: \['text'\]"),
        ({"question": "q", "text": ""}, "the continuation is empty"),
        ({"question": "q", "text": ["a", ""]}, r"the continuation \(number 2 of 2\) is empty"),
        ({"question": "q", "text": []}, r"text \[\] holds no continuation"),
        ({"question": "q", "text": 7}, "text 7 is no text"),
        ({"question": " ", "text": "t"}, "question ' ' is empty"),
        ({"question": 5, "text": "t"}, "question 5 is no text"),
        ({"question": "q", "token_ids": []}, "token_ids is empty"),
        ({"question": "q", "token_ids": [1, -2]}, r"token_ids \[1, -2\] is no list of token ids"),
        ({"question": "q", "token_ids": [1.5]}, "is no list of token ids"),
        ({"question": "q", "token_ids": [True]}, "is no list of token ids"),
        ({"question": "q", "token_ids": [float("inf")]}, "is no list of token ids"),
        ({"question": "q", "token_ids": "1 2"}, "is no list of token ids"),
        ({"question": "q", "text": "t", "finish_reason": "tool_calls"}, "finish_reason 'tool_calls' is none of stop, "),
        ({"question": "q", "text": "t", "finish_reason": 3}, "finish_reason 3 is none of"),
        ({"question": "q", "text": ["a", "b"], "finish_reason": ["stop"]}, "has 1 entries for 2 continuations"),
        ({"question": "q", "text": "t", "answer": {"a": 1}}, "answer {'a': 1} is no text"),
        ({"question": "q", "text": "so 9 \ud83d"}, r"field 'text' has half a character, '\\ud83d': a lone surrogate"),
        ({"conversation": "Hi", "text": "t"}, "conversation 'Hi' is no list of turns"),
        ({"conversation": [{"role": "user"}], "text": "t"}, "has a turn without a role or a text"),
        ({"conversation": [{"role": "assistant", "content": "a"}], "text": "t"}, "ends with a turn of the assistant"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_bad_line_is_named(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(
        UsageError, match=rf"1 problem; nothing was scored\.\n  \S+texts\.jsonl, line 2: .*{message}"
    ) as error:
        read_texts(jsonl(tmp_path, ROWS[0], row))
    assert error.value.exit_code == 2


def test_all_bad_lines_are_reported_at_once_and_the_first_20_shown(tmp_path: Path) -> None:
    bad = [{"question": "q", "text": ""}, "{", {"text": "t", "finish_reason": "x"}] * 10
    with pytest.raises(UsageError) as error:
        read_texts(jsonl(tmp_path, ROWS[0], *bad))
    message = error.value.message
    assert message.startswith("The input has 40 problems; nothing was scored.")
    assert message.count("\n") == 21
    assert message.endswith("and 20 more")
    assert "line 2: the continuation is empty" in message
    assert "line 15:" in message


def test_a_field_that_was_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"line 2: field 'gold' \(answer\) is missing; fields there: \['question', 'text'\]"
    ):
        read_texts(
            jsonl(tmp_path, {"question": "q", "text": "t", "gold": None}, {"question": "q", "text": "t"}),
            names=TextFields.of({"answer": "gold"}),
        )
    with pytest.raises(UsageError, match="fields=: 'txt' is unknown"):
        TextFields.of({"txt": "completion"})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "There is no file"),
        ("empty.jsonl", b"\n", "holds no continuation"),
        ("latin.jsonl", b'{"question": "\xe9"}\n', "line 1: not UTF-8"),
        ("no.parquet", b"PAR0", "is no Parquet file"),
        ("no.json", b'{"eval": {}}', "it has no list of samples"),
        ("cut.json", gzip.compress(b'{"samples": []}', mtime=0)[:20], "the file is damaged"),
        ("half.json", b"\xff\xfe\x00\xd8\x00\xd8", "the file is damaged"),
        ("archive.jsonl", b'{"text": "PK\x05\x06' + b"0" * 18 + b'"}', "line 1: no valid JSON"),
        ("no.eval", b"{", "is no log of inspect_ai"),
    ],
)
def test_a_file_that_is_not_what_it_says(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_texts(tmp_path / name)


# -- lm-eval --------------------------------------------------------------------------------------------------------


def lm_eval_line(doc_id: int, filter_name: str, **changes: Any) -> dict[str, Any]:
    context = f"Question: old\nAnswer: 1\n\nQuestion: new {doc_id}\nAnswer:"
    return {
        "doc_id": doc_id,
        "doc": {"question": f"new {doc_id}", "answer": "so #### 4"},
        "target": "so #### 4",
        "arguments": {"gen_args_0": {"arg_0": context, "arg_1": {"until": ["Question:"], "temperature": 0.0}}},
        "resps": [[f" {doc_id} + 2 = 4", " it is 5"]],
        "filtered_resps": ["4"],
        "filter": filter_name,
        "exact_match": 1.0,
    } | changes


def test_lm_eval_samples(tmp_path: Path) -> None:
    lines = [lm_eval_line(doc, name) for name in ("strict-match", "flexible-extract") for doc in (0, 1)]
    path = jsonl(tmp_path, *lines, name="samples_gsm8k_2026-01-01T00-00-00.jsonl")
    assert detect(path) == "lm-eval"
    texts = read_texts(path)
    assert [text.continuation for text in texts] == [" 0 + 2 = 4", " it is 5", " 1 + 2 = 4", " it is 5"]
    context = "Question: old\nAnswer: 1\n\nQuestion: new 0\nAnswer:"
    assert texts[0].content == given(" 0 + 2 = 4", "new 0", base_prompt=context, answer="so #### 4")


def test_lm_eval_samples_of_older_versions_and_other_documents(tmp_path: Path) -> None:
    older = lm_eval_line(0, "none", arguments=[["Problem: x", {"until": []}]], resps=[["y"]], doc={"problem": "x", "n": 3})
    bare = {name: value for name, value in older.items() if name not in ("resps", "filter", "doc_id")}
    path = jsonl(tmp_path, older, bare)
    texts = read_texts(path)
    assert [(text.question, text.continuation, text.base_prompt) for text in texts] == [
        ("Problem: x", "y", "Problem: x"),
        ("Problem: x", "4", "Problem: x"),
    ]
    mapped = read_texts(path, names=TextFields.of({"question": "doc.problem", "answer": "doc.n"}))
    assert [(text.question, text.answer) for text in mapped] == [("x", "3")] * 2


def test_lm_eval_lines_without_the_name_of_their_filter_are_one(tmp_path: Path) -> None:
    lines = [lm_eval_line(doc, name) for name in ("strict", "flexible") for doc in (0, 1)]
    bare = [{name: value for name, value in line.items() if name != "filter"} for line in lines]
    assert len(read_texts(jsonl(tmp_path, *bare))) == 4
    nameless = [{name: value for name, value in line.items() if name not in ("filter", "doc_id")} for line in lines]
    assert len(read_texts(jsonl(tmp_path, *nameless))) == 4


def test_lm_eval_prompts_that_are_chats(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "new?"}]
    written = {"gen_args_0": {"arg_0": [json.dumps(turns)], "arg_1": {}}}
    lines = [lm_eval_line(0, "a", arguments=written), lm_eval_line(1, "a", arguments=[[turns, {}]], doc={"n": 3})]
    texts = read_texts(jsonl(tmp_path, *lines))
    assert [(text.question, text.conversation, text.base_prompt) for text in texts[::2]] == [
        ("new 0", (("user", "new?"),), None),
        ("new?", (("user", "new?"),), None),
    ]
    plain = lm_eval_line(0, "a", arguments={"gen_args_0": {"arg_0": ["[no chat]"], "arg_1": {}}})
    assert read_texts(jsonl(tmp_path, plain))[0].base_prompt == "[no chat]"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arguments": {"gen_args_0": {"arg_0": "x", "arg_1": " choice"}}, "resps": [[["-1.2", "False"]]]}, "loglikelihood"),
        ({"arguments": []}, "'arguments' holds no context"),
        ({"resps": [[[-1.5, False]]]}, "is no text"),
        ({"resps": []}, "holds no continuation"),
    ],
)
def test_lm_eval_lines_without_a_text(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"line 2: .*{message}"):
        read_texts(jsonl(tmp_path, lm_eval_line(0, "none"), lm_eval_line(1, "none", **changes)))


# -- inspect_ai -----------------------------------------------------------------------------------------------------


def inspect_sample(number: int, **changes: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": f"ANSWER: {number}", "source": "generate"}
    return {
        "id": number,
        "epoch": 1,
        "input": f"question {number}",
        "target": str(number),
        "messages": [{"role": "user", "content": f"Solve: question {number}"}, message],
        "output": {
            "model": "m",
            "choices": [{"message": message, "stop_reason": "stop"}],
            "completion": f"ANSWER: {number}",
        },
        "attachments": {},
    } | changes


def choice(content: Any, stop_reason: str = "stop", **message: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content, **message}, "stop_reason": stop_reason}]}


LOGGED = [
    inspect_sample(1),
    inspect_sample(2, input=[{"role": "user", "content": "question 2"}], target=["2"]),
    inspect_sample(
        3,
        input="attachment://f00",
        target="",
        attachments={"f00": "question 3"},
        output=choice([{"type": "text", "text": "long"}], "max_tokens"),
    ),
    inspect_sample(4, output=choice("?", "unknown")),
]
INSPECTED = [
    given("ANSWER: 1", "question 1", answer="1", finish_reason="stop"),
    given("ANSWER: 2", "question 2", answer="2", finish_reason="stop"),
    given("long", "question 3", finish_reason="length"),
    given("?", "question 4", answer="4"),
]


def test_inspect_json_log(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"version": 2, "status": "success", "eval": {}, "samples": LOGGED}))
    texts = read_texts(path)
    assert without_place(texts) == INSPECTED
    assert texts[0].place.endswith("log.json, sample 1, epoch 1")


@pytest.mark.parametrize("layout", ["{0}\n{0}", "\n[{0}, {0}]", "[\n {0},\n {0}\n]", "{0}\n\n{0}\n"])
def test_json_that_is_no_log(tmp_path: Path, layout: str) -> None:
    (tmp_path / "rows.json").write_text(layout.format(json.dumps(ROWS[0])))
    assert detect(tmp_path / "rows.json") == "jsonl"
    assert len(read_texts(tmp_path / "rows.json")) == 2


def test_inspect_eval_archive(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        for sample in LOGGED:
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
        archive.writestr("summaries.json", "[]")
    assert without_place(read_texts(path)) == INSPECTED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"error": {"message": "rate limit"}}, "the sample failed: rate limit"),
        ({"output": {"choices": []}}, "'output.choices' is missing or empty"),
        (
            {"input": [{"role": "user", "content": "u"}, {"role": "tool", "content": "t"}]},
            r"no conversation that ends with a question \(user, tool\)",
        ),
        ({"messages": [{"role": "assistant", "content": "a"}] * 2}, "2 turns of the assistant"),
        ({"output": choice([{"type": "reasoning", "reasoning": "r"}, {"type": "text", "text": "t"}])}, r"\(reasoning\)"),
        ({"output": choice("t", tool_calls=[{"id": "1"}])}, "the answer calls a tool"),
        ({"output": choice("t", "content_filter")}, "the answer was filtered"),
        ({"output": choice("")}, "the continuation is empty"),
        ({"target": ["a", "b"]}, "2 targets"),
        ({"target": "\ud83d"}, "answer has half a character"),
        ({"messages": "none"}, "'messages' is no list of objects"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_inspect_samples_that_are_not_one_question_and_one_answer(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"samples": [inspect_sample(1), inspect_sample(2, **changes)]}))
    with pytest.raises(UsageError, match=rf"1 problem;.*\n  \S+log.json, sample 2, epoch 1: .*{message}"):
        read_texts(path)
