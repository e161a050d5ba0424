"""What is wrong with an experiment file: found before anything starts, with the line, all at once."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.errors import EndpointError, ExperimentFileError, UsageError
from rrti_sgl.programs.experiments.complaints import Complaints
from rrti_sgl.programs.experiments.grid import build_grid
from rrti_sgl.programs.experiments.loading import load_experiment, read_content
from rrti_sgl.prompts.template import PromptTemplate
from tests.experiments.files import BASE, BUNDLED, REASONING, SMALL, checked, pair, write
from tests.prompts.tokenizers import CHATML_WITHOUT_GENERATION_PROMPT
from tests.serving.models import QWEN3_06B, QWEN3_8B


def assert_told(pattern: str, faults: list[str]) -> None:
    assert [fault for fault in faults if re.search(pattern, fault)], faults


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('out = "out"', "outt = 3", r"line 1, outt: unknown field; did you mean out\?"),
        ("k = 0", "k = -1", "line 7, decoding.k: -1 is too small. Use at least 0."),
        ("k = 0", "k = 57", "line 7, decoding.k: k = 57 is outside 1..56 .the vocabulary.. Choose k in"),
        ("k = 0", "top_p = 0", r"line 7, decoding.top_p: 0 is too small. Use more than 0"),
        ("k = 0", "temperature = nan", "line 7, decoding.temperature: nan is no number"),
        ("k = 0", "temperature = true", "line 7, decoding.temperature: true is no number"),
        ("k = 0", 'decoding = "chunkd"', "line 7, decoding.decoding: 'chunkd' is unknown; did you mean chunked"),
        ("k = 0", 'tagger = "no.such:Tagger"', "line 7, decoding.tagger: .*no.such"),
        (
            "k = 0",
            'loop = "chunked"',
            r"line 7, decoding.loop: unknown field. There are in_flight, special_tokens, k, .*decoding",
        ),
        ("k = 0", "in_flight = '8'", "line 7, decoding.in_flight: '8' is no whole number"),
        ("limit = 4", "limit = 2.5", r"line 14, evaluations\[0\].limit: 2.5 is no whole number"),
        ("limit = 4", "seeds = [1, 1]", r"line 14, evaluations\[0\].seeds: \[1, 1\] holds"),
        ("limit = 4", 'grader = "oracle"', r"line 14, evaluations\[0\].grader: Grader 'oracle' is unknown"),
        ("limit = 4", 'base_template = "mth@1"', r"line 14, evaluations\[0\].base_template: Prompt template 'mth@1'"),
        ("limit = 4", 'question_field = "q"', r"line 14, .*question_field: world:heldout has fields of its own"),
        ("limit = 4", 'split = "test"', r"line 14, evaluations\[0\].split: 'test' is unknown"),
        (
            "limit = 4",
            "max_new_tokens = 500",
            r"line 14, .*max_new_tokens: The base prompt has .* the 506 that the base server takes in all. The .*"
            r" max_new_tokens = 4\d\d or less",
        ),
        ('"world:heldout"', '"gsm8q"', r"line 13, evaluations\[0\].problems: Problem set 'gsm8q' is neither"),
        (
            '"world:heldout"',
            '"world:calibration"',
            r"line 13, .*: 4 of 4 problems of world:calibration were used by the calibration, .* allow_overlap",
        ),
        ('name = "greedy"', 'name = "calibration"', r"line 12, evaluations\[0\].name: 'calibration' is the calibration's"),
        ('program = "guided"', 'program = "guded"', r"line 18, programs\[1\].program: Program 'guded' is unknown"),
        ("spike_ratio = 0.08", "spike_ratio = 8", r"line 19, programs\[1\].spike_ratio: 8 is too large. Use at most 1"),
        ("spike_ratio = 0.08", 'on = ["gredy"]', r"line 19, programs\[1\].on: there is no evaluation 'gredy'"),
        (
            "spike_ratio = 0.08",
            'spike_ratio = 0.08\n[[programs]]\nprogram = "random"\nlike = "guided r=0.8"',
            r"line 22, programs\[2\].like: no 'guided r=0.8' runs before it on 'greedy'. There are 'base', 'guided r=0.08'",
        ),
        ("spike_ratio = 0.08", "lambda = 2.0", r"line 19, .*lambda: 2.0 is neither true nor false. .*lambda_value"),
        ("spike_ratio = 0.08", 'metric = "cosine"', r"line 19, programs\[1\].metric: 'cosine' is unknown. Use one of ce"),
        ("spike_ratio = 0.08", 'gate = "no.such:Gate"', r"line 19, programs\[1\].gate: .*no.such"),
        ("spike_ratio = 0.08", 'label = "base"', r"line 17, programs\[1\]: a second 'base' on greedy"),
        ("spike_ratio = 0.08", "tau = [0.5, 'x']", r"line 19, programs\[1\].tau: 'x' is no number"),
        ("spike_ratio = 0.08", "tau = []", r"line 19, programs\[1\].tau: \[\] is an empty list"),
        ("spike_ratio = 0.08", "budget = [0.1, 0.2]\nlabel = 'b'", r"line 20, programs\[1\].label: the lists make 2 var"),
        ('program = "guided"', "tau = 1", r"line 17, programs\[1\].program: missing. Write for example program = 'guided'"),
        ('problems = "world:heldout"\n', "", r"line 11, evaluations\[0\].problems: missing. .*problems = 'gsm8k'"),
        ("limit = 12", 'name = "c"', r"line 10, calibration.name: 'c' is unknown"),
        ("limit = 12", "seeds = [1, 2]", r"line 10, calibration.seeds: a calibration has one seed"),
        ("limit = 12", "grader = 3", r"line 10, calibration.grader: 3 is no text"),
        ("[[evaluations]]", "[evaluations]", "evaluations: missing: there is no \\[\\[evaluations\\]\\]"),
        (
            '[calibration]\nproblems = "world:calibration"\nlimit = 12\n',
            "",
            "programs.1..program: .*there is no .calibration",
        ),
        ('model = "bundled"', f"model = {str(BASE)!r}", "line 4, models.reasoning: the bundled models are a pair"),
        (
            "[decoding]",
            f"[models.reference]\nmodel = {str(BASE)!r}\n[decoding]",
            "models.reference: there is no third bundled",
        ),
        ("[decoding]", '[servers]\nbase_url = "http://a:1"\n[decoding]', "servers.reasoning_url: missing: either all"),
        ("[decoding]", '[servers]\nflags = "--a \'b"\n[decoding]', "line 7, servers.flags: .* is no command line"),
    ],
    ids=lambda value: value[:32] if isinstance(value, str) else None,
)
def test_one_fault(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in SMALL
    _, _, faults = checked(write(tmp_path, SMALL.replace(old, new, 1)))
    assert_told(fault, faults)


def test_a_right_file_has_none(tmp_path: Path) -> None:
    grid, findings, faults = checked(write(tmp_path, SMALL))
    assert faults == []
    assert [cell.name for cell in grid.all_cells] == [
        "calibration: diagnose",
        "greedy: base",
        "greedy: guided r=0.08",
        "greedy: reasoning",
    ]
    assert grid.thresholds("reasoning") == [("ce", 0.08)]
    assert findings.notes == []


def test_the_checks_ask_nothing_of_models_that_are_not_served(tmp_path: Path) -> None:
    _, findings, _ = checked(write(tmp_path, SMALL))
    pair = findings.pairs["reasoning"]
    assert (pair.base.info.model, pair.reasoning.info.model, pair.vocab_size) == ("bundled/base", "bundled/reasoning", 56)
    assert pair.base.info.max_input_tokens == 506
    with pytest.raises(EndpointError, match="bundled/base is not served yet"):
        asyncio.run(pair.base.generate([]))


def test_all_faults_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = SMALL.replace("k = 0", "k = -1\ntop_q = 1").replace("limit = 4", "samples = 0").replace('"guided"', '"guded"')
    (tmp_path / "mine.toml").write_text(text)
    done = CliRunner().invoke(app, ["experiment", str(tmp_path / "mine.toml"), "--out", str(tmp_path / "out")])
    told = done.exception
    assert isinstance(told, ExperimentFileError)
    assert told.exit_code == 11
    assert re.search("mine.toml has 4 faults; nothing was started.", told.message)
    assert re.findall(r"line (\d+), ([\w.\[\]]+):", told.message) == [
        ("7", "decoding.k"),
        ("8", "decoding.top_q"),
        ("15", "evaluations[0].samples"),
        ("19", "programs[1].program"),
    ]
    assert not (tmp_path / "out").exists()


def test_tables_that_cannot_be_read_do_not_hide_the_others_or_move_their_lines(tmp_path: Path) -> None:
    more = "[[programs]]\ntau = 3\n[[programs]]\nprogram = 3\n[[programs]]\nprogram = 'relay'\nrelay_tokens = 0\n"
    text = SMALL.replace('problems = "world:heldout"\n', "samples = 0\n") + more + "[[programs]]\nprogram = 'gided'\n"
    _, _, faults = checked(write(tmp_path, text))
    assert [re.sub(" .*", "", fault.partition(": ")[2]) and fault.partition(": ")[0] for fault in faults] == [
        "line 11, evaluations[0].problems",
        "line 13, evaluations[0].samples",
        "line 22, programs[3].program",
        "line 25, programs[4].program",
        "line 28, programs[5].relay_tokens",
        "line 30, programs[6].program",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"models: missing"),
        ("models = 3\n", r"line 1, models: 3 is no table"),
        ('[models.base]\nmodel = "bundled"\n', "line 1, models.reasoning: missing"),
        (
            "[models.base]\nmodel = 'bundled'\n[models.reasoning]\nthinking = true\n",
            "line 3, models.reasoning.model: missing",
        ),
    ],
)
def test_a_file_without_models_is_refused_at_once(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ExperimentFileError, match=fault):
        load_experiment(write(tmp_path, text))


KEYS = ("models", "base", "model", "decoding", "k", "evaluations", "problems", "name", "seeds", "programs", "tau", "", "on")
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2), st.floats(), st.sampled_from(["", " ", "bundled", "guided"])
)
TABLES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@given(changes=st.dictionaries(st.sampled_from((*KEYS, "calibration", "servers", "out")), TABLES, max_size=5))
def test_whatever_a_file_holds_its_faults_are_told(changes: dict[str, Any]) -> None:
    complaints = Complaints("mine.toml")
    try:
        spec = read_content({**tomllib.loads(SMALL), **changes}, Path(), complaints)
    except ExperimentFileError:
        assert complaints.found
        return
    build_grid(spec, complaints)
    assert all(complaint.message for complaint in complaints.found)
    if not complaints.found:
        assert len(spec.evaluations) == len(changes.get("evaluations", "1"))


def test_no_toml_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExperimentFileError, match=r"is no TOML: .*line 2"):
        load_experiment(write(tmp_path, "a = 1\nb = = 2\n"))
    with pytest.raises(UsageError, match=r"no experiment 'nothing'.*demo"):
        load_experiment("nothing")


# -- models ---------------------------------------------------------------------------------------------------------


def test_an_unknown_model_names_the_field_of_its_side(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _, _, faults = checked(write(tmp_path, pair(base=str(tmp_path / "empty"))))
    assert any(re.match("line 3, models.base.model: The tokenizer of .* cannot be loaded", fault) for fault in faults), (
        faults
    )


def test_vocabularies_that_differ(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in BASE.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["then"], vocabulary["wait"] = vocabulary["wait"], vocabulary["then"]
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    _, _, faults = checked(write(tmp_path, pair(reasoning=str(other))))
    assert any(re.match("line 5, models.reasoning.model: The two models have different voc.*2 of", f) for f in faults), (
        faults
    )


@pytest.mark.parametrize(
    ("template", "fault"), [(CHATML_WITHOUT_GENERATION_PROMPT, "no generation prompt"), (None, "no chat template")]
)
def test_a_chat_template_without_a_generation_prompt(tmp_path: Path, template: str | None, fault: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in REASONING.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "tokenizer_config.json").read_text())
    (other / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
    text = pair(reasoning=str(other)).replace("[decoding]", 'template = "chat@1"\n[decoding]')
    _, _, faults = checked(write(tmp_path, text))
    assert_told(f"line 6, models.reasoning.template: .*{fault}", faults)


def test_a_gpu_that_is_too_small(tmp_path: Path) -> None:
    sizes = {"base": QWEN3_06B, "reasoning": QWEN3_8B}
    for side, config in sizes.items():
        (tmp_path / side).mkdir()
        for file in BASE.glob("*token*.json"):
            (tmp_path / side / file.name).write_bytes(file.read_bytes())
        (tmp_path / side / "config.json").write_text(json.dumps(config))
    servers = '[servers]\ndevice = "cuda"\ncontext = 32768\ngpu_gib = {}\n[decoding]\n'
    text = pair("base", "reasoning").replace("[decoding]\n", servers).replace("k = 0", "k = 20")
    _, _, faults = checked(write(tmp_path, text.format(24)))
    assert [f for f in faults if re.match(r"line 6, servers: The GPU is too small: 23.5 GiB are free, 29.9 GiB are", f)], (
        faults
    )
    _, findings, faults = checked(write(tmp_path, text.format(80)))
    assert faults == []
    assert sum("KV cache" in note for note in findings.notes) == 2


# -- problems -------------------------------------------------------------------------------------------------------

OF_FILE = SMALL.replace('"world:heldout"', '"mine.jsonl"')


@pytest.mark.parametrize(
    ("rows", "more", "fault"),
    [
        ([{"q": "?"}], "", r"line 13, .*problems: .*mine.jsonl, line 1: field 'question' is missing .* question_field"),
        (
            [{"question": f"q{i}", "answer": "???"} for i in range(5)],
            'grader = "choice"\n',
            r"line 13, .*problems: Problem \w+: the gold answer '\?\?\?' is none of A.*And 2 more.*answer_field",
        ),
        ([], "", "line 13, .*mine.jsonl holds no problem"),
    ],
    ids=["field", "gold", "empty"],
)
def test_problem_files(tmp_path: Path, rows: list[dict[str, str]], more: str, fault: str) -> None:
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, _, faults = checked(write(tmp_path, OF_FILE.replace("limit = 4\n", more)))
    assert_told(fault, faults)


def test_an_oracle_needs_planted_decisions(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"question": "ann", "answer": "1"}')
    _, _, faults = checked(write(tmp_path, OF_FILE.replace('"base"', '"oracle"', 1)))
    assert_told("plants no decision points", faults)


def test_more_worked_examples_than_there_are(tmp_path: Path) -> None:
    text = BUNDLED.replace('model = "bundled"', 'model = "bundled"\nfew_shot = 3', 1) + SMALL.removeprefix(BUNDLED)
    _, _, faults = checked(write(tmp_path, text))
    assert_told(r"line 4, models.base.few_shot: few_shot = 3: .* 0 worked", faults)


def test_templates_are_read_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('text = "solve {question}"')
    grid, _, faults = checked(write(tmp_path, SMALL.replace("limit = 4", 'limit = 4\nbase_template = "own.toml"')))
    assert faults == []
    assert isinstance(grid.cells[0].settings.base_prompt, PromptTemplate)
    assert grid.cells[0].settings.base_prompt.text == "solve {question}"
