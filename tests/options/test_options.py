"""Options that are declared once: the same names, defaults and limits in commands, in files and in Python."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rrti_sgl import bounds
from rrti_sgl.cli import execution
from rrti_sgl.cli.main import app
from rrti_sgl.cli.options import RUN_OPTIONS
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import load_problems
from rrti_sgl.programs.options import declared
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.settings import RunSettings, settings_from
from tests.test_docs import COMMANDS


class AskedError(Exception):
    """Carries the settings that a command would run."""


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The settings of a command line; nothing is started."""

    def stop(path: Path, settings: Any, *more: Any, **named: Any) -> None:
        raise AskedError(settings)

    monkeypatch.setattr(execution, "open_store", stop)
    monkeypatch.setattr("rrti_sgl.cli.score.open_input", stop)

    def of(line: str) -> Any:
        asked = CliRunner().invoke(app, shlex.split(line)).exception
        assert isinstance(asked, AskedError), asked
        return asked.args[0]

    return of


# Hashes that earlier versions stored for these commands: an unfinished run of it is found again, and goes on.
HASHES = {
    "run guided": "1bcd1f2a1988c110",
    "run base --limit 5 --samples 3 --temperature 0.7 --top-p 0.9 --seed 3": "c0446badea53250f",
    "run guided --tau 0.5 --lambda-value 2 --window 8 --warmup partial --k 0": "4e0f267dda3bc850",
    "run guided --tau 0.5 --lambda --k 5 --score-kind plugin": "666fca58baa2ea15",
    "run guided --lambda --no-lambda --spike-ratio 0.1 --allow-overlap --calibration c1": "552cf720c81b960a",
    "run guided --lambda-value 3 --no-lambda": "b8d4840ab8f289f5",
    "run entropy --metric kl --max-new-tokens 50 --decoding lockstep --draft-tokens 3": "b1a85999e7625ce6",
    "run random --budget 0.1 --sample-problems 10 --problem-seed 4": "20351cfcac9e06e0",
    "run early --mean-length 30 --budget 0.2": "f29299917d4cb86a",
    "run relay --relay-tokens 7 --no-thinking --special-tokens as-is": "9495439640373ee8",
    "run base --base-template math@1 --few-shot 2": "7c96e9d3d6ed4d0e",
    r"run base --base-prompt 'Q: {question}\nA:' --reasoning-prompt chat": "d2868db22ef5b827",
    "run guided --gate tests.x:Gate --gate-param p=0.05 --gate-param name=abc --tagger a.b:C": "b197f17ee7954d57",
    "calibrate": "374ea9a8beec1841",
}


@pytest.mark.parametrize("line", HASHES)
def test_a_command_is_the_run_that_it_was(settings_of: Any, line: str) -> None:
    settings = settings_of(line)
    problems = settings.load_problems()
    assert settings.resolved(problems, 56).digest(problems) == HASHES[line]
    assert RunSettings.from_dict(json.loads(json.dumps(settings.to_dict())), trust=None) == settings


@pytest.mark.parametrize(
    ("more", "digest"),
    [
        ("", "88353167f988405a"),
        (
            "--k 5 --metric kl --grader choice --base-prompt chat --tagger a:B --few-shot 0 --special-tokens as-is",
            "92a49b8176bc02af",
        ),
    ],
)
def test_score_is_the_run_that_it_was(settings_of: Any, tmp_path: Path, more: str, digest: str) -> None:
    (tmp_path / "in.jsonl").write_text('{"question": "has", "text": "5"}\n')
    settings = settings_of(f"score --input {tmp_path / 'in.jsonl'} {more}")
    given_texts = settings.input.read()
    assert settings.digest(given_texts, load_problems("world:heldout", limit=2)) == digest


def test_a_call_a_command_and_a_record_are_the_same(settings_of: Any) -> None:
    options = {"tau": 0.5, "lambda_value": 2.0, "base_template": "math", "problems": "gsm8k", "calibration": "c", "k": 0}
    line = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
    called = settings_from("guided", **options)
    assert settings_of(f"run guided {line}") == called
    gate = GateOptions(tau=0.5, lambda_=2.0, use_lambda=True)
    assert RunSettings("guided", "gsm8k", k=0, base_template="math", calibration_id="c", gate=gate) == called
    assert called.base_prompt is not None
    assert called.base_prompt.name == "math@1"


def test_every_option_is_one_of_run_with_its_default() -> None:
    found = {parameter.name: parameter for parameter in COMMANDS.commands["run"].params}
    for name, entry in RUN_OPTIONS.items():
        parameter = found[entry.field]
        assert parameter.opts[0] == entry.flag.partition("/")[0]
        assert parameter.rich_help_panel == entry.option.panel
        assert parameter.help == entry.option.help
        assert parameter.default == (None if name == "gate_params" else entry.default)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tua": 0.5}, r"^There is no option 'tua'; did you mean tau\?"),
        ({"frobnicate": 1}, r"There is no option 'frobnicate'\. There are problems, .*gate_params"),
        ({"k": -1}, r"^k=-1 is too small\. Use at least 0"),
        ({"k": True}, "^k=true is no whole number"),
        ({"samples": 2.5}, r"^samples=2\.5 is no whole number"),
        ({"temperature": "hot"}, "^temperature='hot' is no number"),
        ({"temperature": float("nan")}, "^temperature=nan is no number"),
        ({"top_p": 0}, r"^top_p=0 is too small\. Use more than 0\."),
        ({"mean_length": float("inf")}, "^mean_length=inf is no number"),
        ({"problems": " "}, "^problems=' ' is no text"),
        ({"use_lambda": 2.0}, r"^use_lambda=2\.0 is neither true nor false.*lambda_value"),
        ({"warmup": "taw"}, r"^warmup='taw' is unknown; did you mean tau\? Use one of tau, partial, never"),
        ({"gate_params": 3}, "^gate_params=3 is no table"),
        ({"base_template": "mth@1"}, "Prompt template 'mth@1' is unknown"),
        ({"base_prompt": "none"}, r"has no field \{question\}"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_what_does_not_fit_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settings_from("guided", **options)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(UsageError, match=r"^samples=0 is too small\..*k=-1 is too small\..*budget=2 is too large"):
        settings_from("guided", k=-1, samples=0, budget=2)


def test_records_check_themselves_and_keep_what_fits() -> None:
    with pytest.raises(UsageError, match=r"^window=0 is too small"):
        GateOptions(window=0)
    with pytest.raises(UsageError, match=r"^split='x' is unknown"):
        RunSettings("base", split="x")  # type: ignore[arg-type]
    assert repr(RunSettings("base", temperature=1).temperature) == "1"  # as it was stored, so that its hash stays
    assert repr(settings_from("base", temperature=1).temperature) == "1.0"


@given(
    k=st.integers(0, 10_000),
    temperature=st.floats(0, 10),
    top_p=st.floats(0, 1, exclude_min=True),
    tau=st.none() | st.floats(allow_nan=False),
    limit=st.none() | st.integers(1, bounds.COUNT),
    budget=st.floats(0, 1),
    spike_ratio=st.none() | st.floats(0, 1, exclude_min=True),
)
def test_settings_survive_the_store(**options: Any) -> None:
    settings = settings_from("guided", **options)
    assert RunSettings.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert [getattr(settings.gate if name in ("tau", "budget", "spike_ratio") else settings, name) for name in options] == [
        *options.values()
    ]


def test_an_option_needs_a_declaration_and_no_more() -> None:
    """A record with one more option: it is there, with its type and its default."""
    from dataclasses import dataclass

    from rrti_sgl.programs.options import Option, validated

    more = Annotated[int, Option("Of our own.", "Gate", name="own")]

    @dataclass(frozen=True)
    class More(GateOptions):
        own_number: Any = 3

    More.__annotations__["own_number"] = more
    assert declared(More)["own"].flag == "--own"
    assert validated({"own": 4, "tau": 1}, More) == {"own_number": 4, "tau": 1.0}
    with pytest.raises(UsageError, match=r"^own_number='x' is no whole number"):
        validated({"own_number": "x"}, More)
