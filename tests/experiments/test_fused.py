"""Experiments whose file says that one server holds both models: checked, planned and run as others are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli import experiment_run
from rrti_sgl.cli.main import app
from rrti_sgl.fused.protocol import KEY
from rrti_sgl.programs.experiments.loading import load_experiment
from rrti_sgl.programs.experiments.models import serving_options
from rrti_sgl.serving import arrangement
from tests.experiments.files import BASE, SMALL, checked, pair, write
from tests.experiments.test_bad_files import assert_told
from tests.serving.models import QWEN3_06B, QWEN3_8B

FUSED = SMALL.replace("[decoding]", '[servers]\nfused = true\ndevice = "cpu"\n[decoding]').replace("k = 0", "k = 20")


def gpu_pair(folder: Path, more: str) -> str:
    """A file with two models that have sizes of their own; their tokenizers are those of the bundled pair."""
    for name, config in (("base", QWEN3_06B), ("reasoning", QWEN3_8B)):
        (folder / name).mkdir()
        for file in BASE.iterdir():
            if "tokenizer" in file.name:
                (folder / name / file.name).symlink_to(file)
        (folder / name / "config.json").write_text(json.dumps(config))
    text = pair(str(folder / "base"), str(folder / "reasoning"))
    return write(folder, text.replace("[decoding]", f"[servers]\nfused = true\ngpu_gib = 80\n{more}\n[decoding]"))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('device = "cpu"', 'fused_url = "http://a:1"', "line 8, servers.fused_url: unknown field"),
        ("fused = true", "fused = 1", "line 7, servers.fused: 1 is neither true nor false"),
        ('device = "cpu"', "base_gpus = [0]", "line 8, servers.base_gpus: one server holds both models. Leave it out"),
        (
            'device = "cpu"',
            'base_url = "http://a:1"\nreasoning_url = "http://a:1"',
            "line 7, servers.fused: the servers run already",
        ),
        ('model = "bundled"', 'model = "bundled"\nflags = "--x"', "line 4, models.base.flags: one server holds both"),
        ("k = 20", 'decoding = "lockstep"', "line 10, decoding.decoding: lockstep decoding needs two servers"),
        ("k = 20", "exchanged = true", "line 10, decoding.exchanged: exchanged roles need two servers"),
        ('program = "base"', 'program = "oracle"', r"programs\[0\].program: its gate knows the problem"),
    ],
    ids=lambda value: value[:32] if isinstance(value, str) else None,
)
def test_what_two_servers_are_needed_for_is_told_by_its_field(tmp_path: Path, old: str, new: str, fault: str) -> None:
    assert old in FUSED
    _, _, faults = checked(write(tmp_path, FUSED.replace(old, new, 1)))
    assert_told(fault, faults)


def test_the_dry_run_shows_the_server_and_its_one_request(tmp_path: Path) -> None:
    file = write(tmp_path, FUSED.replace('problems = "world:heldout"', 'problems = "world:heldout"\ntypical_tokens = 30'))
    shown = CliRunner().invoke(app, ["experiment", file, "--dry-run"])
    assert shown.exit_code == 0, shown.exception
    assert "one server for both models" in shown.stdout
    plan = json.loads(CliRunner().invoke(app, ["experiment", file, "--dry-run", "--json"]).stdout)
    assert plan["servers"] == "one server for both models"
    [request] = plan["requests"]
    assert request["server"] == "fused"
    assert request["body"]["input_ids"] == plan["prompts"]["reasoning"]["token_ids"]
    asked = json.loads(request["body"]["sampling_params"]["custom_params"][KEY])
    assert asked["trace"] == 20
    assert "base_input_ids" not in asked  # both models are shown the same
    assert [row["requests"] for row in plan["runs"] if row["run"] == "guided r=0.08"] == [4]


def test_the_plan_of_a_gpu_is_that_of_servers_of_both_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrangement, "check_router_installed", lambda: None)
    _, findings, faults = checked(gpu_pair(tmp_path, "replicas = 2\nconcurrency = 8"))
    assert faults == []
    memory = [note for note in findings.notes if note.startswith("Memory, base with reasoning on a supposed GPU of 80 GiB")]
    assert ["GPU 0: " in memory[0], "GPU 1: " in memory[1]] == [True, True]
    assert f"{tmp_path / 'base'} and {tmp_path / 'reasoning'}: weights 16.4 GiB" in memory[0]


def test_a_gpu_that_is_too_small_for_both_models(tmp_path: Path) -> None:
    _, _, faults = checked(gpu_pair(tmp_path, ""))
    assert faults == []
    small = tmp_path / "mine.toml"
    small.write_text(small.read_text().replace("gpu_gib = 80", "gpu_gib = 12"))
    assert_told("line 6, servers: The GPU is too small", checked(str(small))[2])


def test_gates_of_ones_own_are_named_to_the_server(tmp_path: Path) -> None:
    gate = "rrti_sgl.science.gates:NeverGate"
    spec = load_experiment(write(tmp_path, FUSED.replace("spike_ratio = 0.08", f'gate = "{gate}"'))).spec
    options = serving_options(spec, "reasoning")
    assert list(options.gates) == [gate]
    assert options.base_flags == options.reasoning_flags == ()


@pytest.mark.server
@pytest.mark.slow
def test_the_command_runs_it_and_finds_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_run, "make_report", lambda store, runs: runs)
    monkeypatch.setattr(experiment_run, "write_report", lambda report, out: [out / "report.md", out / "report.html"])
    out = tmp_path / "out"
    command = ["experiment", write(tmp_path, FUSED), "--out", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.exception
    assert [log.name for log in (out / "logs").iterdir()] == ["fused.log"]
    query = ["sql", "SELECT DISTINCT status, score_kind FROM runs", "--db", str(out / "traces.duckdb"), "--json"]
    assert json.loads(CliRunner().invoke(app, query).stdout) == [{"status": "finished", "score_kind": "full"}]

    def start(*given: Any, **named: Any) -> None:
        raise AssertionError("a server was to be started")

    monkeypatch.setattr(experiment_run, "open_pair", start)
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.exception
    assert again.stderr.count("stored already") == 4
    # Two servers would score by other lists: their runs are others.
    two = CliRunner().invoke(app, ["experiment", write(tmp_path, FUSED.replace("fused = true\n", "")), "--out", str(out)])
    assert isinstance(two.exception, AssertionError)
