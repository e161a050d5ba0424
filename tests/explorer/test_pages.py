"""What the explorer lists and shows, against plain loops over the rows of the store."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer.asked import MissingError
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.science.metrics import METRICS
from tests.explorer.conftest import PROBLEMS, WORDS

RUNS = [f"{program}-1" for program in ("base", "diagnose", "guided", "reasoning")]  # made at one time, so by name
TABLES = ("runs", "samples", "tokens")
Row = dict[str, Any]


class Rows(dict[str, list[Row]]):
    """By table; it is long."""

    def __repr__(self) -> str:
        return "rows"


@pytest.fixture(scope="module")
def rows(random_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The tables of a copy, read without any of ours."""
    copy = shutil.copy(random_path, tmp_path_factory.mktemp("copy"))
    with duckdb.connect(str(copy), read_only=True) as connection:
        found = Rows({name: connection.sql(f"FROM {name}").to_arrow_table().to_pylist() for name in TABLES})
    by_sample: dict[str, list[Row]] = {}
    for token in sorted(found["tokens"], key=lambda row: row["position"]):
        by_sample.setdefault(token["sample_id"], []).append(token)
    for sample in found["samples"]:
        sample["tokens"] = by_sample[sample["sample_id"]]
    return found


QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "run": st.lists(st.sampled_from([*RUNS, "none"]), min_size=1, max_size=3),
        "program": st.lists(st.sampled_from(["guided", "base"]), min_size=1, max_size=2),
        "outcome": st.sampled_from(["right", "wrong", "ungraded"]),
        "flipped": st.sampled_from(RUNS),
        "flip": st.sampled_from(["gained", "lost", "any"]),
        "takeoversMin": st.integers(0, 4),
        "takeoversMax": st.integers(0, 4),
        "word": st.sampled_from(["then", "WAIT", " so", "if", "nothing"]),
        "tagged": st.booleans(),
        "from": st.integers(0, 14),
        "to": st.integers(0, 14),
        "scoreMin": st.floats(0, 3).map(lambda x: round(x, 2)),
        "scoreMax": st.floats(0, 3).map(lambda x: round(x, 2)),
        "text": st.sampled_from(["2+2", "THEN WAIT", "% 7", "so  7"]),
        "sort": st.sampled_from(["problem", "tokens", "takeovers", "changed", "maxScore", "outcome", "run"]),
        "order": st.sampled_from(["up", "down"]),
    },
)


def spelled(query: Row) -> dict[str, list[str]]:
    listed = {name: value if isinstance(value, list) else [value] for name, value in query.items()}
    return {name: [str(v).lower() if isinstance(v, bool) else str(v) for v in values] for name, values in listed.items()}


def holds(query: Row, sample: Row, others: list[Row]) -> bool:
    """Whether a sample is in a list, by the words of the documentation."""
    verdict = {True: "right", False: "wrong", None: "ungraded"}[sample["correct"]]
    if "run" in query and sample["run_id"] not in query["run"]:
        return False
    if "program" in query and sample["run_id"].removesuffix("-1") not in query["program"]:
        return False
    if query.get("outcome", verdict) != verdict:
        return False
    if not query.get("takeoversMin", 0) <= sample["n_takeovers"] <= query.get("takeoversMax", 99):
        return False
    if "flipped" in query:
        pair = [(sample["problem_id"], sample["sample_index"]) == (o["problem_id"], o["sample_index"]) for o in others]
        [other] = [o for o, same in zip(others, pair, strict=True) if same and o["run_id"] == query["flipped"]]
        turned = {(False, True): "gained", (True, False): "lost"}.get((other["correct"], sample["correct"]))
        if turned is None or query.get("flip", "any") not in ("any", turned):
            return False
    if "text" in query and query["text"].lower() not in sample["text"].lower() and query["text"] not in "2+2?":
        return False
    return of_tokens(query, sample["tokens"])


def of_tokens(query: Row, tokens: list[Row]) -> bool:
    tests: list[Callable[[Row], bool]] = []
    if "word" in query:
        tests.append(lambda token: token["token_text"].strip().lower() == query["word"].strip().lower())
    if "from" in query:
        tests.append(lambda token: token["position"] >= query["from"])
    if "to" in query:
        tests.append(lambda token: token["position"] <= query["to"])
    if "scoreMin" in query:
        tests.append(lambda token: token["score"] is not None and token["score"] >= query["scoreMin"])
    if "scoreMax" in query:
        tests.append(lambda token: token["score"] is not None and token["score"] <= query["scoreMax"])
    tagged = query.get("tagged")
    if tests and not tagged and not {"word", "scoreMin", "scoreMax"} & query.keys():
        tests.append(lambda token: token["source"] == "reasoning")
    if tagged:
        tests.append(lambda token: token["planning_tag"] is not None)
    if tagged is False and any(token["planning_tag"] is not None for token in tokens):
        return False
    return not tests or any(all(test(token) for test in tests) for token in tokens)


def key_of(sort: str, sample: Row) -> Any:
    scores = [token["score"] for token in sample["tokens"] if token["score"] is not None]
    return {
        "problem": sample["problem_id"],
        "tokens": sample["n_tokens"],
        "takeovers": sample["n_takeovers"],
        "changed": (sample["n_changed"], sample["n_takeovers"]),
        "maxScore": max(scores, default=None),
        "outcome": None if sample["correct"] is None else not sample["correct"],
        "run": RUNS.index(sample["run_id"]),
    }[sort]


@settings(max_examples=150)
@given(query=QUERIES)
def test_a_list_has_what_its_query_says_in_its_order(query: Row, explored: Explorer, rows: Rows) -> None:
    page = explored.answer("samples", spelled(query) | {"limit": ["1000"]})
    expected = [sample for sample in rows["samples"] if holds(query, sample, rows["samples"])]
    expected.sort(key=lambda row: (RUNS.index(row["run_id"]), row["problem_id"], row["sample_index"]))
    sort = query.get("sort", "run")
    down = query.get("order", "down" if sort in ("tokens", "takeovers", "changed", "maxScore") else "up") == "down"
    last = [sample for sample in expected if key_of(sort, sample) is None]
    expected = [sample for sample in expected if key_of(sort, sample) is not None]
    expected.sort(key=lambda sample: key_of(sort, sample))
    if down:  # equal ones stay in the order of runs
        values = sorted({key_of(sort, sample) for sample in expected}, reverse=True)
        expected = [sample for value in values for sample in expected if key_of(sort, sample) == value]
    assert [row["sample"] for row in page["rows"]] == [sample["sample_id"] for sample in [*expected, *last]]
    assert page["total"] == len(expected) + len(last)


def test_pages_are_cuts_of_one_list(explored: Explorer) -> None:
    whole = explored.answer("samples", {"sort": ["maxScore"], "limit": ["1000"]})
    assert whole["total"] == len(whole["rows"]) == 4 * PROBLEMS * 2
    for offset in (0, 7, 46, 48, 900):
        page = explored.answer("samples", {"sort": ["maxScore"], "offset": [str(offset)], "limit": ["5"]})
        assert page == {"total": whole["total"], "offset": offset, "rows": whole["rows"][offset : offset + 5]}


def test_a_row_is_that_of_its_sample(explored: Explorer, rows: Rows) -> None:
    of = {sample["sample_id"]: sample for sample in rows["samples"]}
    for row in explored.answer("samples", {"limit": ["1000"]})["rows"]:
        sample = of[row["sample"]]
        scores = [token["score"] for token in sample["tokens"] if token["score"] is not None]
        assert row == {
            "run": sample["run_id"], "sample": sample["sample_id"], "index": sample["sample_index"],
            "program": sample["run_id"].removesuffix("-1"), "problem": sample["problem_id"], "question": "2+2?",
            "answer": "4", "gold": "4", "correct": sample["correct"], "tokens": sample["n_tokens"],
            "takeovers": sample["n_takeovers"], "changed": sample["n_changed"], "finish": "stop",
            "maxScore": max(scores, default=None), "parent": None, "parentPosition": None,
        }  # fmt: skip


def test_a_sample_has_its_tokens_in_order(explored: Explorer, rows: Rows) -> None:
    sample = next(sample for sample in rows["samples"] if sample["run_id"] == "guided-1" and sample["n_changed"])
    tokens = sample["tokens"]
    shown = explored.answer(f"sample/guided-1/{sample['sample_id']}", {})
    columns = {"ids": "token_id", "texts": "token_text", "source": "source", "baseDrew": "base_token_text"}
    columns |= {"score": "score", "fired": "fired", "planning": "planning_tag", "baseLogprob": "base_logprob"}
    for name, column in columns.items():
        assert shown[name] == [token[column] for token in tokens], name
    assert shown["metrics"] == {name: [token[name] for token in tokens] for name in METRICS}
    scored = [token["score"] is not None for token in tokens]
    assert shown["seen"] == [sum(scored[:place]) for place in range(len(tokens))]
    assert (shown["question"], shown["basePrompt"], shown["reasoningPrompt"]) == ("2+2?", "Q:", None)
    assert shown["runInfo"]["gate"] == {
        "name": "divergence", "metric": "ce", "tau": 0.5, "lambda": None, "window": 4, "warmup": "tau", "cooldown": 0,
        "rolling": 1,
    }  # fmt: skip
    assert shown["bounds"] == "lower bounds: top-k of 2"


def test_candidates_are_the_lists_with_texts_and_the_rank_of_the_token(explored: Explorer, rows: Rows) -> None:
    sample = rows["samples"][0]
    whole = explored.answer(f"candidates/{sample['run_id']}/{sample['sample_id']}", {})
    assert (whole["from"], whole["to"]) == (0, sample["n_tokens"])
    for shown, token in zip(whole["tokens"], sample["tokens"], strict=True):
        assert [entry[0] for entry in shown["base"]] == token["base_topk_ids"]
        assert [entry[1] for entry in shown["base"]] == ["#3", "#5"], "nothing was ever written that says what they are"
        assert [entry[2] for entry in shown["base"]] == [round(x, 4) for x in token["base_topk_logprobs"]]
        assert (shown["baseTail"], shown["baseRank"], shown["reasoning"]) == (0.0, None, [])
    part = explored.answer(f"candidates/{sample['run_id']}/{sample['sample_id']}", {"from": ["1"], "to": ["3"]})
    assert part == {"from": 1, "to": 3, "tokens": whole["tokens"][1:3]}
    past = explored.answer(f"candidates/{sample['run_id']}/{sample['sample_id']}", {"from": ["90"], "to": ["99"]})
    assert past["tokens"] == []


def test_partners_are_the_other_samples_of_the_problem(explored: Explorer, rows: Rows) -> None:
    sample = next(each for each in rows["samples"] if (each["problem_id"], each["sample_index"]) == ("p3", 1))
    found = explored.answer(f"partners/{sample['run_id']}/{sample['sample_id']}", {})
    same = [each["sample_id"] for each in rows["samples"] if each["problem_id"] == "p3" and each is not sample]
    assert sorted(row["sample"] for row in found) == sorted(same)
    assert [row["index"] for row in found] == [1, 1, 1, 0, 0, 0, 0]


@settings(max_examples=100)
@given(
    query=st.fixed_dictionaries(
        {"run": st.sampled_from(RUNS)},
        optional={
            "positionFrom": st.integers(0, 9),
            "positionTo": st.integers(0, 9),
            "word": st.sampled_from([*(str(word) for word in WORDS), "none"]),
            "metric": st.sampled_from(["score", "ce", "entropy_base", "kl"]),
            "scoreMin": st.floats(0, 2),
            "scoreMax": st.floats(0, 2),
            "fired": st.booleans(),
            "changed": st.booleans(),
        },
    ),
    relative=st.booleans(),
)
def test_the_tokens_behind_a_point(query: Row, relative: bool, explored: Explorer, rows: Rows) -> None:
    if relative:
        query = {name: value / 9 if name.startswith("position") else value for name, value in query.items()}
    found = explored.answer("tokens", spelled(query | {"relative": relative, "limit": 1000}))
    expected = []
    for sample in rows["samples"]:
        if sample["run_id"] != query["run"]:
            continue
        for token in sample["tokens"]:
            value = token[query.get("metric", "score")]
            place = (token["position"] + 0.5) / sample["n_tokens"] if relative else token["position"]
            low, high = query.get("positionFrom", 0), query.get("positionTo", 99)
            changed = token["fired"] and token["base_token_id"] != token["token_id"]
            kept = low <= place < high if relative else low <= place <= high
            kept &= "word" not in query or token["token_text"].strip().lower() == query["word"].strip().lower()
            kept &= "scoreMin" not in query or (value is not None and value >= query["scoreMin"])
            kept &= "scoreMax" not in query or (value is not None and value <= query["scoreMax"])
            kept &= query.get("fired", token["fired"]) == token["fired"] and query.get("changed", changed) == changed
            if kept:
                texts = [each["token_text"] for each in sample["tokens"]]
                at = token["position"]
                around = {"before": "".join(texts[max(0, at - 12) : at]), "after": "".join(texts[at + 1 : at + 13])}
                expected.append(
                    {"run": query["run"], "sample": sample["sample_id"], "position": at, "token": texts[at], "score": value,
                     "fired": token["fired"], "correct": sample["correct"], **around}
                )  # fmt: skip
    order = {sample["sample_id"]: (sample["problem_id"], sample["sample_index"]) for sample in rows["samples"]}
    assert found == sorted(expected, key=lambda row: (order[row["sample"]], row["position"]))


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("samples", {"sort": ["size"]}, r"sort: .*'problem'.*Its parameters are: run, program"),
        ("samples", {"takeoversMin": ["-1"], "limit": ["0"]}, r"takeoversMin: .*; limit: "),
        ("samples", {"scoreMin": ["nan"]}, "scoreMin: .*finite"),
        ("samples", {"color": ["red"]}, "color: Extra inputs"),
        ("samples", {"text": ["x" * 1001]}, "text: .*1000 characters"),
        ("sample/guided-1/x", {"a": ["1"]}, r"a: Extra inputs.*Its parameters are: none"),
        ("tokens", {}, "run: Field required"),
        ("tokens", {"run": ["guided-1"], "metric": ["score; DROP TABLE runs"]}, "metric = .* is unknown.*score, ce"),
        ("candidates/guided-1/x", {"from": ["a"]}, "from: .*valid integer"),
    ],
)
def test_a_wrong_address_names_what_is_wrong(
    path: str, query: dict[str, list[str]], message: str, explored: Explorer
) -> None:
    with pytest.raises(UsageError) as caught:
        explored.answer(path, query)
    assert re.search(message, str(caught.value)), str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["", "runs", "sample/guided-1", "sample/guided-1/none", "sample/none/none", "candidates/a/b", "partners/a/b", "tree/a/b",
     "sample/guided-1/'; --", "statistics/none", "export/tree/a/b"],
)  # fmt: skip
def test_what_is_not_there_is_missing(path: str, explored: Explorer) -> None:
    with pytest.raises(MissingError) as caught:
        explored.answer(path, {})
    assert caught.value.remedy


def test_the_store_says_what_it_has(explored: Explorer) -> None:
    info = explored.answer("store", {})
    assert [run["run"] for run in info["runs"]] == RUNS
    assert [metric["name"] for metric in info["metrics"]] == ["score", *METRICS]
    assert (info["static"], info["branching"]) == (False, False)
    assert "rrti view --base-url" in info["branchingRemedy"]
    assert info["statistics"] == ["budget", "position", "planning"]


def test_runs_are_there_while_they_are_read_again(random_path: Path) -> None:
    """A sample is asked for at every step of a refresh."""
    with Store.open_readonly(random_path) as store, Explorer(store) as explorer:
        row = explorer.answer("samples", {})["rows"][0]
        missing: list[int] = []

        def look(frame: FrameType, event: str, argument: object) -> Any:
            if frame.f_code.co_name == "_read_runs" and row["run"] not in explorer._runs:
                missing.append(frame.f_lineno)
            return look

        sys.settrace(look)
        try:
            explorer.refresh(row["run"])
        finally:
            sys.settrace(None)
        assert missing == []
