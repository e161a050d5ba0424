"""Messages name what their caller gave as that caller writes it: an argument, an option, a key of a file."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import rrti_sgl as rr
from rrti_sgl.cli.main import app
from rrti_sgl.cli.options import RUN_OPTIONS
from rrti_sgl.cli.spelling import Options
from rrti_sgl.errors import UsageError, argument, command, spelled
from rrti_sgl.given_texts import read_texts
from rrti_sgl.programs.experiments.complaints import Complaints, Keys
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.publishing.pulling import pull
from rrti_sgl.programs.publishing.pushing import push
from rrti_sgl.programs.running.arms import plan_arms
from rrti_sgl.programs.running.runner import run_seeds
from rrti_sgl.programs.running.settings import RunSettings, settings_from
from rrti_sgl.programs.scoring.settings import TextInput
from rrti_sgl.programs.stored.whatif import WhatIfOptions
from rrti_sgl.programs.web.serving import Place
from rrti_sgl.serving.arrangement import ServingOptions
from rrti_sgl.serving.memory import Demand
from tests.test_docs import COMMANDS

REPOSITORY = Path(__file__).parents[2]
ROOMS = ("rrti_sgl", "programs", "db")
TYPED = {
    flag: command_
    for command_, group in COMMANDS.commands.items()
    for part in (group, *getattr(group, "commands", {}).values())
    for parameter in part.params
    for flag in (*parameter.opts, *parameter.secondary_opts)
    if flag.startswith("--")
}


def modules() -> Iterator[tuple[Path, ast.Module]]:
    for room in ROOMS:
        for path in (REPOSITORY / room).rglob("*.py"):
            yield path.relative_to(REPOSITORY), ast.parse(path.read_text())


def refused(options: dict[str, Any]) -> str:
    with pytest.raises(UsageError) as caught:
        settings_from("guided", **options)
    return str(caught.value)


@pytest.mark.parametrize("entry", RUN_OPTIONS.values(), ids=lambda entry: entry.name)
def test_every_option_is_named_as_its_surface_writes_it(entry: Any) -> None:
    wrong = {entry.field: object()}
    flag = entry.flag.partition("/")[0]
    called = refused(wrong)
    assert called.startswith(f"{entry.field}=<object")
    assert "--" not in called
    with spelled(Options()):
        typed = refused(wrong)
    assert typed.startswith(f"{flag} <object")
    if "_" in entry.field:
        assert not re.search(rf"\b{entry.field}\b", typed)
    complaints = Complaints("grid.toml")
    with complaints.noting(("decoding",)):
        settings_from("guided", **wrong)
    [written] = complaints.found
    key = entry.name.removeprefix("base_").removeprefix("reasoning_")
    assert written.message.startswith((f"{entry.name} = <object", f"{key} = <object"))
    assert "--" not in written.message


def test_values_are_written_as_each_surface_writes_them() -> None:
    assert argument("split", "evaluation") == "split='evaluation'"
    assert argument("thinking", False) == "thinking=False"
    assert command("run", resume="r", db="t.duckdb") == "run(..., resume='r')"
    assert command("sql", snapshot=True) == "open(..., snapshot=True)"
    assert command("serve", fused=True) == "rrti serve --fused"
    with spelled(Options()):
        assert argument("split", "evaluation") == "--split evaluation"
        assert argument("thinking", False) == "--no-thinking"
        assert argument("allow_overlap", True) == "--allow-overlap"
        assert argument("trust", ["a:B", "c:D"]) == "--trust a:B --trust c:D"
        assert argument("lambda_") == "--lambda-value"
        assert argument("spike_ratios") == "--spike-ratio"
        assert command("run", resume="r", db="t.duckdb") == "rrti run --resume r --db t.duckdb"
    with spelled(Keys()):
        assert argument("split", "evaluation") == 'split = "evaluation"'
        assert argument("thinking", False) == "thinking = false"
        assert argument("base_gpus") == "base_gpus"
        assert argument("reasoning_template") == "template"
    assert argument("tau") == "tau="


def test_no_sentence_spells_an_option_of_the_command_line() -> None:
    """Every text but docstrings and what declares the options, in all that a Python caller can reach."""
    spelled_out = []
    for path, tree in modules():
        docs = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
                first = node.body[0]
                if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                    docs.add(id(first.value))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs and " " in node.value:
                named = [flag for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", node.value) if flag in TYPED]
                spelled_out += [f"{path}:{node.lineno} {flag}" for flag in named]
    # They make pages: what a command prints, or the hub shows.
    no_message = ("db/definitions.py", "programs/tables/table.py", "programs/publishing/card.py")
    assert [place for place in spelled_out if not place.startswith(no_message)] == []


def test_every_argument_that_messages_name_is_one_in_python_and_on_the_command_line() -> None:
    callables = [value for value in vars(rr.ModelPair).values() if inspect.isfunction(value)]
    callables += [rr.serve, rr.connect, rr.open, plan_arms, run_seeds, read_texts, rr.TraceStore.sql, push, pull]
    known = {name for called in callables for name in inspect.signature(called).parameters}
    for record in (RunSettings, GateOptions, WhatIfOptions, ServingOptions, Demand, TextInput, Place):
        assert is_dataclass(record)
        known |= {field.name for field in fields(record)}
    known |= {"base_template", "reasoning_template", "memory_limit", "unfinished", "parts"}  # three are commands'
    known |= {"base_port", "reasoning_port"}  # `ports` of `ServingOptions`
    named = {
        node.args[0].value
        for _, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", "") == "argument"
        and isinstance(node.args[0], ast.Constant)
    }
    assert {"tau", "base_url", "few_shot"} <= named
    assert named <= known
    with spelled(Options()):
        assert {argument(name) for name in named} <= TYPED.keys()


def test_a_command_names_its_own_options() -> None:
    done = CliRunner().invoke(app, ["whatif", "--tau", "0.5", "--spike-ratio", "0.1"])
    assert str(done.exception) == "--tau and --spike-ratio name different gates. Give one of them."
    with pytest.raises(UsageError, match=r"^tau= and spike_ratios= name different gates"):
        WhatIfOptions(tau=0.5, spike_ratios=[0.1])
