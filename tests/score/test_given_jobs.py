"""From texts to jobs without servers: tokens, prompts, problems, and what is refused before anything is written."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts import GivenText
from rrti_sgl.problems import load_problems, problem_id
from rrti_sgl.programs.running.preparing import PreparedRun
from rrti_sgl.programs.scoring.jobs import JobBuilder
from rrti_sgl.programs.scoring.score import prepare_score
from rrti_sgl.programs.scoring.settings import ScoreSettings, TextInput
from rrti_sgl.prompts import load_template
from rrti_sgl.prompts.chat import render_turns
from rrti_sgl.records import ProblemRecord
from rrti_sgl.rows import Complaints
from rrti_sgl.tinypair.bundle import bundled_pair
from rrti_sgl.tokens.vocabulary import load_vocabulary
from tests.prompts.tokenizers import CHATML, synthetic

BARE = {"base_prompt": load_template("bare@1"), "reasoning_prompt": load_template("bare@1")}
TEXT = "first add 2 : 3 + 2 = 5 . so answer 5"
LIMIT = 60


@pytest.fixture(scope="module")
def pair() -> Pair:
    """The bundled pair's vocabularies with servers that take 60 tokens; nothing here asks them."""
    vocabulary = load_vocabulary(str(bundled_pair().base))
    engine = cast(Any, SimpleNamespace(info=EngineInfo("none", "m", "m", "0", vocabulary.size, LIMIT, 1)))
    return Pair(engine, engine, vocabulary, vocabulary)


class Preparing:
    def __init__(self, pair: Pair, folder: Path) -> None:
        self.pair, self.path = pair, folder / "texts.jsonl"

    def __call__(self, *rows: dict[str, Any], source: dict[str, Any] | None = None, **options: Any) -> PreparedRun:
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        settings = ScoreSettings.of(TextInput(str(self.path), **(source or {})), **options)
        return prepare_score(self.pair, settings, settings.input.read())


@pytest.fixture
def prepare(pair: Pair, tmp_path: Path) -> Preparing:
    return Preparing(pair, tmp_path)


def given(prepared: PreparedRun) -> list[tuple[list[int], str]]:
    return [(list(job.given.token_ids), job.given.finish_reason) for job in prepared.jobs if job.given]


def test_the_end_token_follows_texts_that_stopped_and_nothing_else(prepare: Preparing, pair: Pair) -> None:
    ids, end = pair.vocabulary.encode(TEXT), pair.vocabulary.end_token_id
    assert end is not None
    rows: list[dict[str, Any]] = [
        {"question": "has", "text": TEXT, "finish_reason": "stop"},
        {"question": "has", "text": TEXT + " <eos>", "finish_reason": "stop"},
        {"question": "has", "text": TEXT, "finish_reason": "length"},
        {"question": "has", "text": TEXT},
        {"question": "has", "token_ids": ids, "finish_reason": "stop"},
        {"question": "has", "token_ids": [*ids, end]},
    ]
    ended, open_end = [*ids, end], ids
    assert given(prepare(*rows, **BARE)) == [
        (ended, "stop"),
        (ended, "stop"),
        (open_end, "length"),
        (open_end, "unknown"),
        (open_end, "stop"),
        (ended, "stop"),
    ]
    assert given(prepare(rows[0], source={"end_token": False}, **BARE)) == [(open_end, "stop")]


def test_prompts_are_the_texts_own_unless_a_template_is_asked_for(prepare: Preparing, pair: Pair) -> None:
    row = {"question": "bea has 3", "prompt": "bea has 3 . how", "reasoning_prompt": "ann has 4", "text": TEXT}
    [own] = prepare(row).jobs
    assert (own.base_prompt, own.reasoning_prompt) == (row["prompt"], row["reasoning_prompt"])
    assert own.base_prompt_ids == pair.vocabulary.encode(row["prompt"])
    assert own.reasoning_prompt_ids == pair.vocabulary.encode(row["reasoning_prompt"])
    [asked] = prepare(row, **BARE).jobs
    assert (asked.base_prompt, asked.reasoning_prompt) == ("bea has 3", "bea has 3")
    assert own.problem.problem_id == asked.problem.problem_id == problem_id("bea has 3")
    assert prepare(row).finisher.stops == ()
    with_template = prepare({"question": "has", "text": TEXT}, reasoning_prompt=load_template("bare@1"))
    assert with_template.finisher.stops == ("\nQuestion:",)
    assert with_template.record.config["stops"] == ["\nQuestion:"]


def test_texts_of_one_question_are_samples_of_one_problem(prepare: Preparing) -> None:
    rows = [{"question": q, "text": TEXT, "answer": a} for q, a in (("ann has", 5), ("bea has", 6), ("ann has", 5))]
    prepared = prepare(*rows, **BARE)
    assert [job.sample_index for job in prepared.jobs] == [0, 0, 1]
    assert len({job.sample_id for job in prepared.jobs}) == 3
    record = prepared.record
    assert (record.n_problems, record.samples_per_problem, record.problem_set) == (2, 2, "texts")
    assert (record.program, record.gate, record.tau, record.max_new_tokens) == ("score", "never", None, 13)
    assert record.grader == "last-number-v3"
    assert [problem.answer for problem in (job.problem for job in prepared.jobs)] == ["5", "6", "5"]


def test_a_known_problem_set_brings_gold_answers_prompts_and_planted_decisions(prepare: Preparing) -> None:
    first, second = load_problems("world:heldout", limit=2).problems
    rows = [{"problem_id": second.problem_id, "text": TEXT}, {"question": first.question, "text": TEXT, "answer": "wrong"}]
    prepared = prepare(*rows, source={"problems": "world:heldout"})
    assert [job.problem for job in prepared.jobs] == [second, first]
    assert prepared.jobs[1].base_prompt == first.question
    assert prepared.finisher.planted is not None
    assert prepared.record.n_problems == 2


def test_tokens_that_do_not_give_the_text_back_are_counted(prepare: Preparing, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"question": "has", "text": text} for text in (TEXT, "first  add", "hello 5", TEXT + " <eos>")]
    with caplog.at_level(logging.WARNING):
        prepare(*rows, **BARE)
    [record] = caplog.records
    assert record.message.startswith("2 of 4 texts are not given back by their tokens")
    assert record.message.endswith("texts.jsonl, line 2")


def test_special_tokens_that_are_spelled_are_text_and_counted(prepare: Preparing, caplog: pytest.LogCaptureFixture) -> None:
    spelled = {"question": "ann has <eos> 2", "text": "ann has <eos> 2"}
    with caplog.at_level(logging.WARNING):
        [(ids, reason), _] = given(prepare(spelled, {"question": "has", "text": TEXT}, **BARE))
    vocabulary = prepare.pair.vocabulary
    assert (ids, reason) == (
        [*vocabulary.encode("ann has"), vocabulary.tokenizer.unk_token_id, *vocabulary.encode("2")],
        "unknown",
    )
    assert "1 of 2 texts spell special tokens, which are scored as text and not as these tokens. The first: " in caplog.text
    assert (
        f"1 of 2 questions spell special tokens, which both models read as such: {problem_id('ann has <eos> 2')} <eos>"
        in (caplog.text)
    )


def test_special_tokens_of_byte_level_tokenizers(pair: Pair) -> None:
    tokens = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    vocabulary = synthetic(tokens, end="<|im_end|>", template=CHATML)
    builder = JobBuilder(
        replace(pair, vocabulary=vocabulary, reasoning_vocabulary=vocabulary),
        ScoreSettings.of(TextInput("x")).run,
        BARE["base_prompt"],
        BARE["reasoning_prompt"],
        end_token=True,
        complaints=Complaints(),
    )
    end, think, thought = (vocabulary.token_ids[token] for token in ("<|im_end|>", "<think>", "</think>"))
    letters = vocabulary.encode("<|im_end|>", plain=True)
    assert len(letters) == len("<|im_end|>")
    cases = {
        "a<|im_end|>b": [*vocabulary.encode("a"), *letters, *vocabulary.encode("b")],
        "<think>a</think>b": [think, *vocabulary.encode("a"), thought, *vocabulary.encode("b")],
        "a<|im_end|>": [*vocabulary.encode("a"), end],
        "a <|im_end|>\n": [*vocabulary.encode("a "), end],
    }
    turns = (("system", "s"), ("user", "1?"), ("assistant", "2"), ("user", "3?"))
    for text, ids in cases.items():
        job = builder.job("r", GivenText("here", text, "q", conversation=turns), ProblemRecord("p", "s", "q", None))
        assert job.given is not None
        assert list(job.given.token_ids) == ids
    assert builder.spelled == ["here"]
    assert job.base_prompt == "s\n\n1?\n\n2\n\n3?"
    assert job.reasoning_prompt == render_turns(vocabulary.tokenizer, turns, thinking=True)
    assert job.reasoning_prompt.startswith("<|im_start|>system\ns<|im_end|>\n<|im_start|>user\n1?<|im_end|>")
    assert job.reasoning_prompt.endswith("<|im_start|>assistant\n")
    assert list(job.reasoning_prompt_ids[:1]) == [vocabulary.token_ids["<|im_start|>"]]


def test_texts_that_the_pair_cannot_score_can_be_left_out(prepare: Preparing, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        {"question": "has", "text": TEXT},
        {"question": "has", "token_ids": [3] * LIMIT},
        {"text": "no question"},
        {"question": "has", "text": TEXT},
        {"question": "had", "token_ids": [99]},
    ]
    with caplog.at_level(logging.WARNING):
        prepared = prepare(*rows, source={"skip": True}, **BARE)
    assert [job.sample_index for job in prepared.jobs] == [0, 2]
    assert "1 row left out:\n" in caplog.text
    assert "2 texts left out:\n" in caplog.text
    assert prepared.record.n_problems == 1
    assert prepared.record.config["input"]["skip"] is True
    with pytest.raises(UsageError, match="are more than the 60 that the base server takes"):
        prepare(rows[1], source={"skip": True}, **BARE)


@pytest.mark.parametrize(
    ("row", "source", "message"),
    [
        ({"question": "has", "token_ids": [3, 56]}, {}, "token id 56 is outside the vocabulary of 56"),
        ({"question": "has", "token_ids": [3, 1, 4]}, {}, "token 2 of 3, id 1, is an end token"),
        ({"question": "has", "text": "  "}, {}, "the continuation '  ' has no tokens"),
        (
            {"question": "has", "token_ids": [3] * LIMIT},
            {},
            "1 tokens of the base prompt and 60 of the continuation are more",
        ),
        ({"problem_id": "feed", "text": "5"}, {}, "there is only a problem_id, 'feed'"),
        ({"problem_id": "feed", "text": "5"}, {"problems": "world:heldout"}, "problem_id 'feed' is not among the 1000"),
        ({"question": "why ?", "text": "5"}, {"problems": "world:heldout"}, "question 'why \\?' is not among the 1000"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_the_pair_cannot_score_is_refused_and_nothing_is_written(
    prepare: Preparing, row: dict[str, Any], source: dict[str, Any], message: str
) -> None:
    good = {"problem_id": load_problems("world:heldout", limit=1).problems[0].problem_id, "question": "has", "text": TEXT}
    with pytest.raises(UsageError, match=rf"nothing was scored\.\n  \S+texts.jsonl, line 2: {message}") as error:
        prepare(good, row, source=source, **BARE)
    assert error.value.exit_code == 2


def test_problems_of_every_kind_are_reported_together(prepare: Preparing) -> None:
    rows = [
        {"question": "has", "token_ids": [99], "answer": "1"},
        {"question": "has", "text": "5", "answer": "2"},
        {"question": "has", "token_ids": [3] * LIMIT, "answer": "1"},
    ]
    with pytest.raises(UsageError, match=r"4 problems.*(?s:.*)line 1: token id 99") as error:
        prepare(*rows, **BARE)
    assert "line 2: answer '2' differs from '1', given for the same question" in error.value.message
    assert "of the reasoning prompt and 60 of the continuation" in error.value.message


def test_settings_survive_the_store(prepare: Preparing, tmp_path: Path) -> None:
    prepared = prepare({"question": "has", "text": TEXT}, source={"fields": {"text": "text"}}, k=3, **BARE)
    with Store.open(tmp_path / "traces.duckdb") as store:
        store.begin_run(prepared.record)
        stored = store.get_run(prepared.record.run_id)
    settings = ScoreSettings.from_dict(json.loads(json.dumps(dict(stored.config))))
    assert settings.input == TextInput(str(prepare.path), fields={"text": "text"})
    assert (settings.run.k, settings.run.base_prompt) == (3, BARE["base_prompt"])
    moved = prepare.path.rename(tmp_path / "moved.jsonl")
    again = settings.relocated(moved)
    resumed = prepare_score(prepare.pair, again, again.input.read(), run_id=stored.run_id)
    assert resumed.record.config_hash == stored.config_hash
    assert [job.sample_id for job in resumed.jobs] == [job.sample_id for job in prepared.jobs]
