"""Prompt templates: rendering, few-shot, names and files, the token that opens a text, and the families' chat templates."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.grading import load_grader
from rrti_sgl.grading.mathematics import MathGrader
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.settings import RunSettings, settings_from
from rrti_sgl.prompts import TEMPLATES, PromptTemplate, load_template
from rrti_sgl.records import ProblemRecord
from rrti_sgl.tokens.vocabulary import Vocabulary
from tests.prompts import tokenizers

OWN = PromptTemplate(
    "{question} ->", example="{question} -> {solution}, ", examples=(("a", "b"),), stops=("\n",), name="mine@0123abcd"
)


def test_plain_text() -> None:
    vocabulary = tokenizers.qwen_base()
    text, ids = PromptTemplate("Q: {question}\nA:").render("1 + {x}?", vocabulary)
    assert text == "Q: 1 + {x}?\nA:"
    assert vocabulary.decode(ids) == text


def test_few_shot_puts_worked_examples_before_the_question() -> None:
    template = PromptTemplate(
        "Q: {question}\nA:", example="Q: {question}\nA: {solution}\n\n", examples=(("1?", "2"), ("{solution}?", "4"))
    )
    assert template.render("5?", tokenizers.qwen_base())[0] == "Q: 1?\nA: 2\n\nQ: {solution}?\nA: 4\n\nQ: 5?\nA:"
    assert template.few_shot(1).render("5?", tokenizers.qwen_base())[0] == "Q: 1?\nA: 2\n\nQ: 5?\nA:"
    with pytest.raises(UsageError, match=r"few_shot=3: .* has 2 worked examples"):
        template.few_shot(3)


@pytest.mark.parametrize("name", ["question-answer@1", "math@1"])
def test_the_worked_examples_are_right(name: str) -> None:
    """The last number that an example computes before its answer is its answer, or a number of it."""
    template, grader = TEMPLATES[name], MathGrader()
    assert len(template.examples) == 4
    expected = {
        "question-answer@1": (6 * 8 - 29, 120 - 3 * 15, 2 * 40 * 0.85, 240 * 3 / 4 / 12),
        "math@1": ("2, 3", (5 + 12 - 13) / 2, "1/6", pow(7, 2023, 5)),
    }[name]
    for (question, solution), answer in zip(template.examples, expected, strict=True):
        assert grader.grade(ProblemRecord("id", "set", question, str(answer)), solution).correct, question


def test_every_shipped_template_renders_and_is_versioned() -> None:
    vocabulary = tokenizers.qwen_reasoning()
    for name, template in TEMPLATES.items():
        assert name == template.name
        assert name.partition("@")[2].isdigit()
        template.check(vocabulary)
        text, ids = template.render("What is 2 + 2?", vocabulary)
        assert "What is 2 + 2?" in text
        assert ids == vocabulary.encode(text)
        for stop in template.stops:  # what would begin the next problem is how this one begins
            assert text.startswith(stop.lstrip())


def test_names_and_versions(tmp_path: Path) -> None:
    assert load_template("math") is TEMPLATES["math@1"]
    with pytest.raises(UsageError, match=r"'math@9' is unknown.*math@1"):
        load_template("math@9")
    file = tmp_path / "mine.toml"
    file.write_text('text = "{question} ->"\n[[examples]]\nquestion = "a"\nsolution = "b"\n')
    with pytest.raises(UsageError, match="does not say how a worked example is written"):
        load_template(str(file))
    file.write_text(file.read_text().replace("\n", '\nexample = "{question} -> {solution}, "\n', 1))
    template = load_template(str(file))
    assert template.name.startswith("mine@")
    assert template.render("c", tokenizers.qwen_base())[0] == "a -> b, c ->"
    first = template.name
    file.write_text(file.read_text() + "\n")
    assert load_template(str(file)).name != first


@pytest.mark.parametrize(
    ("content", "match"),
    [
        *[
            ('txt = "x"', "unknown fields txt"),
            ("", "'text' is missing"),
            ("text = ", "is no TOML"),
            ('text = "x"', "no field"),
        ],
        ('text = "{question}"\nstops = true', "'stops' is no list of texts"),
        ('text = "{question}"\nstops = [1]', "'stops' is no list of texts"),
        ('text = "{question}"\nstops = ["", "Q:"]', "'stops' holds an empty text"),
        ('text = "{question}"\nchat = 1', "'chat' is no true or false"),
        ('text = "{question}"\nsystem = 1', "'system' is no text"),
        ('text = "{question}"\nexamples = 1', "'examples' is no list of examples"),
        ('text = "{question}"\nexamples = [{question = "x"}]', "an example lacks the text question or solution"),
        ('text = "{question}"\nexamples = [1]', "an example lacks the text question or solution"),
    ],
)
def test_template_files_that_are_wrong(tmp_path: Path, content: str, match: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(content)
    with pytest.raises(UsageError, match=match):
        load_template(str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        load_template(str(tmp_path / "absent.toml"))


def test_templates_survive_being_stored() -> None:
    for template in TEMPLATES.values():
        assert PromptTemplate.from_dict(json.loads(json.dumps(asdict(template)))) == template
    assert PromptTemplate.from_dict({"text": "chat", "thinking": False}) == PromptTemplate("{question}", False, chat=True)


# -- the token that opens a text ------------------------------------------------------------------------------------


def test_plain_prompts_begin_as_the_tokenizer_begins_every_text() -> None:
    vocabulary = tokenizers.llama_base()
    text, ids = PromptTemplate("{question}").render("hi", vocabulary)
    assert text == "<|begin_of_text|>hi"
    assert ids == [vocabulary.token_ids["<|begin_of_text|>"], *vocabulary.encode("hi")]
    assert ids == vocabulary.tokenizer.encode("hi")


def test_a_chat_template_writes_the_opening_token_itself_and_gets_no_second_one() -> None:
    vocabulary = tokenizers.r1_llama()
    text, ids = TEMPLATES["chat@1"].render("hi", vocabulary)
    assert text.endswith("<\uff5cAssistant\uff5c><think>\n")
    assert ids.count(vocabulary.tokenizer.bos_token_id) == 1
    assert ids[0] == vocabulary.tokenizer.bos_token_id


@pytest.mark.parametrize(
    "vocabulary",
    [
        tokenizers.qwen_base(),
        tokenizers.synthetic(["<s>", "</s>"], end="</s>", begin="<s>", opens=False),
    ],
    ids=["no begin token", "one that is not put before texts"],
)
def test_nothing_is_put_before_a_text_that_the_tokenizer_would_not(vocabulary: Vocabulary) -> None:
    assert vocabulary.opening_ids == ()
    assert PromptTemplate("{question}").render("hi", vocabulary)[1] == vocabulary.encode("hi")


def test_an_end_token_that_also_begins_is_kept() -> None:
    assert tokenizers.synthetic(["</s>"], end="</s>", begin="</s>", opens=True).opening_ids == (256,)


# -- chat templates -------------------------------------------------------------------------------------------------


def chat(template: str | None) -> Vocabulary:
    special = ["<s>", *tokenizers.QWEN_SPECIAL]
    return tokenizers.synthetic(special, end="<|im_end|>", begin="<s>", template=template)


@pytest.mark.parametrize("template", [tokenizers.CHATML, tokenizers.MISTRAL, tokenizers.R1])
def test_templates_that_open_the_answer_pass(template: str) -> None:
    TEMPLATES["chat-math@1"].check(chat(template))


@pytest.mark.parametrize(
    ("template", "prompt", "match"),
    [
        (None, PromptTemplate("chat"), "has no chat template"),
        (tokenizers.CHATML_WITHOUT_GENERATION_PROMPT, PromptTemplate("chat"), "has no generation prompt"),
        (tokenizers.R1, PromptTemplate("chat", thinking=False), "no switch for thinking"),
        ("{{ raise_exception('no system turns') }}", PromptTemplate("chat"), "chat template fails.*no system turns"),
    ],
)
def test_templates_that_cannot_be_used(template: str | None, prompt: PromptTemplate, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        prompt.check(chat(template))


def test_thinking_on_and_off() -> None:
    vocabulary = tokenizers.qwen_reasoning()
    on, off = (PromptTemplate("chat", thinking=thinking).render("hi", vocabulary)[0] for thinking in (True, False))
    assert on == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert off == on + "<think>\n\n</think>\n\n"


def test_a_system_turn() -> None:
    text, _ = TEMPLATES["chat-math-system@1"].render("hi", tokenizers.qwen_reasoning())
    assert text.startswith("<|im_start|>system\nPlease reason step by step")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"base_prompt": "{question}:"}, "{question}:"),
        ({"base_prompt": "chat"}, "{question}"),
        ({"base_template": "bare"}, "{question}"),
        ({"base_prompt": OWN}, OWN.text),
        ({}, None),
    ],
)
def test_templates_of_options(options: dict[str, Any], expected: str | None) -> None:
    template = settings_from("base", **options).base_prompt
    assert (template and template.text) == expected


def test_a_prompt_as_text_and_by_name_at_once_is_refused() -> None:
    with pytest.raises(UsageError, match="Both base_prompt= and base_template="):
        settings_from("base", base_prompt="{question}", base_template="bare")


@pytest.mark.parametrize(
    ("settings", "shots", "thinking"),
    [({}, 0, True), ({"few_shot": 2, "thinking": False}, 2, False), ({"base_prompt": OWN}, 1, True)],
)
def test_what_settings_make_of_templates(settings: dict[str, Any], shots: int, thinking: bool) -> None:
    problem_set = ProblemSet("set", [], load_grader("last-number"), "math@1", "chat-math@1")
    resolved = RunSettings("base", **settings).resolved(problem_set, 100)
    assert resolved.base_prompt is not None
    assert resolved.reasoning_prompt is not None
    assert len(resolved.base_prompt.examples) == shots
    assert resolved.reasoning_prompt.thinking is thinking
    stored = RunSettings.from_dict(json.loads(json.dumps(resolved.to_dict())))
    assert stored == resolved
    assert stored.resolved(problem_set, 100) == resolved  # a resumed run is shown the same prompts


def test_text_without_its_field() -> None:
    with pytest.raises(UsageError, match="has no field"):
        PromptTemplate("Question:")
