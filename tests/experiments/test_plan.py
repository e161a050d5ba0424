"""The shipped experiments, and the dry run against Qwen3's real tokenizer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.programs.experiments.estimates import Measured, Waiting, bytes_a_token, cell_cost, requests_for, seconds_left
from rrti_sgl.programs.experiments.finished import FinishedExperiment
from rrti_sgl.programs.experiments.grid import Cell, Grid, build_grid
from rrti_sgl.programs.experiments.loading import load_experiment, shipped, shipped_text
from rrti_sgl.programs.experiments.spec import (
    BaseModelSpec,
    CalibrationSpec,
    DecodingSpec,
    ProgramSpec,
    ReasoningModelSpec,
    ServerSpec,
)
from tests.experiments.files import BASE, REASONING, SMALL, checked, pair, write, write_benchmarks
from tests.prompts.tokenizers import real_qwen3
from tests.serving.models import QWEN3_06B, QWEN3_8B

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", shipped())
def test_shipped_experiments_are_right(name: str) -> None:
    loaded = load_experiment(name)
    grid = build_grid(loaded.spec, loaded.complaints)
    loaded.complaints.raise_if_any()
    programs = {cell.settings.program for cell in grid.all_cells}
    alike = {cell.settings.program for cell in grid.all_cells if cell.settings.gate.like is not None}
    if name == "demo" or name.startswith("paper-"):
        assert {"diagnose", "base", "guided", "entropy", "random", "early", "matched", "reasoning"} == programs
        assert alike == {"entropy", "random", "early", "matched"}  # controls at the realised budget of guided
    assert {"base", "guided", "entropy", "random", "reasoning"} <= programs
    assert {"entropy", "random"} <= alike
    assert all(e.typical_tokens and e.typical_reasoning_tokens for e in loaded.spec.evaluations)  # the plan has no "?"
    comment = shipped_text(name).partition("title =")[0]
    assert {"Memory", "Time", "Disk"} <= set(re.findall(r"(\w+):", comment))


@pytest.mark.parametrize(("name", "n_controls"), [("sparse-but-critical", 4), ("both-directions", 32)])
def test_both_directions_are_in_one_file(name: str, n_controls: int) -> None:
    """Each guided run has its exchanged one, and each control follows a run of its own direction."""
    loaded = load_experiment(name)
    first = loaded.spec.evaluations[0].name
    cells = {cell.label: cell for cell in build_grid(loaded.spec, loaded.complaints).cells if cell.evaluation.name == first}
    guided = [label for label in cells if label.startswith("guided") and not label.endswith("exchanged")]
    assert len(guided) == 4
    assert all(cells[f"{label}, exchanged"].settings.exchanged for label in guided)
    followed = {label: cell.followed for label, cell in cells.items() if cell.followed is not None}
    assert len(followed) == n_controls
    assert all(cells[label].settings.exchanged == cell.settings.exchanged for label, cell in followed.items())


def test_variants_that_their_gates_do_not_name_are_told_by_their_options(tmp_path: Path) -> None:
    """Runs are found again by their labels: two of one name would be one row of the results."""
    changed = SMALL.replace("spike_ratio = 0.08", "tau = 1\nlambda_value = [1.5, 2.0]\nwindow = [8, 16]\ncooldown = [0, 1]")
    changed += '[[programs]]\nprogram = "deferral"\ntau = [0.1, 0.2]\ndeferral = ["opt", "chow"]\n'
    grid, _, faults = checked(write(tmp_path, changed))
    assert faults == []
    labels = [cell.label for cell in grid.cells]
    assert len(set(labels)) == len(labels) == 14
    assert "guided tau=1 lambda, t<W: tau cooldown 1, lambda_value 2.0, window 8" in labels
    assert labels[-1] == "deferral chow tau=0.2"
    _, _, [fault] = checked(write(tmp_path, SMALL.replace("spike_ratio = 0.08", "tau = [1, 1.0]")))
    assert "a second 'guided tau=1' on greedy" in fault


def with_guest(
    program: str = 'guest = "same"', name: str = "same", model: str = f"model = {str(BASE)!r}", more: str = ""
) -> str:
    """An experiment with the base model as a guest, and what a test makes of it."""
    text = pair().replace("[calibration]", f"[models.guests.{name}]\n{model}\n{more}[calibration]")
    return text.replace("spike_ratio = 0.08", f"spike_ratio = 0.08\n{program}")


def test_guests_have_runs_and_calibrations_of_their_own(tmp_path: Path) -> None:
    """Controls follow the run with their own guest, and a label without one is that of the reasoning model's."""
    both = 'guest = ["reasoning", "same"]'
    controls = f'[[programs]]\nprogram = "random"\nlike = "guided r=0.08"\n{both}\n'
    grid, findings, faults = checked(write(tmp_path, with_guest(both) + controls))
    assert faults == []
    assert [(cell.label, cell.guest, cell.followed and cell.followed.label) for cell in grid.all_cells] == [
        ("diagnose", "reasoning", None),
        ("base", "reasoning", None),
        ("guided r=0.08", "reasoning", None),
        ("reasoning", "reasoning", None),
        ("random like r=0.08", "reasoning", "guided r=0.08"),
        ("diagnose, guest same", "same", None),
        ("guided r=0.08, guest same", "same", None),
        ("random like r=0.08, guest same", "same", "guided r=0.08, guest same"),
    ]
    assert findings.pairs["same"].reasoning.info.model == str(BASE)
    models = FinishedExperiment.of(load_experiment(str(tmp_path / "mine.toml")).spec, {}).models
    assert models == {"base": str(BASE), "reasoning": str(REASONING), "guest same": str(BASE)}


ADDRESSES = '[servers]\nbase_url = "http://a:1"\nreasoning_url = "http://b:1"\n'


@pytest.mark.parametrize(
    ("file", "fault"),
    [
        (
            with_guest('guest = "other"'),
            r"programs\[1\].guest: there is no \[models.guests.other\]. There are 'reas",
        ),
        (with_guest(""), "models.guests.same: no program has it as its guest. Write guest = 'same'"),
        (with_guest('guest = "same"\nexchanged = true\ntau = 1'), "guest: a guest takes over in the base model's text"),
        (with_guest(name="reference"), "models.guests.reference: is no name for a guest"),
        (with_guest(model='modl = "x"'), "models.guests.same.model: missing"),
        (with_guest(model='model = "bundled"'), "models.guests.same: there is no third bundled model"),
        (with_guest(model='model = "/nowhere"'), "models.guests.same.model: .*/nowhere"),
        (with_guest(more=ADDRESSES), "servers.guest_urls.same: missing: either all"),
    ],
    ids=range(8),
)
def test_faults_of_guests_are_told_where_they_are(tmp_path: Path, file: str, fault: str) -> None:
    assert any(re.search(fault, told) for told in checked(write(tmp_path, file))[2])


def test_thresholds_of_the_other_direction_are_refused(tmp_path: Path) -> None:
    changed = SMALL.replace('program = "guided"', 'program = "guided"\nexchanged = true', 1)
    assert changed != SMALL
    _, _, faults = checked(write(tmp_path, changed))
    assert any("[calibration] is of rollouts in the other direction" in str(fault) for fault in faults)


def test_the_demo_is_the_demonstration() -> None:
    """The same runs as `rrti demo`, under labels that may differ."""
    from rrti_sgl.programs.demonstration.demo import DemoSize, greedy_rows, sampled_rows

    loaded = load_experiment("demo")
    size = DemoSize()
    for name, rows in (("greedy", greedy_rows()), ("sampled", sampled_rows())):
        cells = [cell for cell in build_grid(loaded.spec, loaded.complaints).cells if cell.evaluation.name == name]
        assert [(cell.settings.program, cell.settings.gate) for cell in cells] == [
            (program, cell.settings.gate if program == "early" and gate.like is None else gate)
            for (program, gate), cell in zip(rows.values(), cells, strict=True)
        ]
    greedy, sampled = loaded.spec.evaluations
    assert (greedy.limit, sampled.limit, sampled.samples) == (size.problems, size.sampled_problems, size.samples)
    assert loaded.spec.calibration is not None
    assert loaded.spec.calibration.limit == size.calibration_problems


def test_shipped_text_is_a_beginning(tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, ["experiment", "demo", "--print"]).output
    _, _, faults = checked(write(tmp_path, printed))
    assert faults == []


def test_the_documentation_names_every_field() -> None:
    page = (ROOT / "docs" / "experiments.md").read_text()
    models = (BaseModelSpec, ReasoningModelSpec, ServerSpec, DecodingSpec, CalibrationSpec, ProgramSpec)
    fields = {name for model in models for name in model.model_fields} - {"path"} | {"title", "out"}
    assert {"k", "lambda", "lambda_value", "base_template", "in_flight", "flags", "few_shot"} < fields
    assert {name for name in fields if f"`{name}`" not in page} == set()


def test_the_howtos_file_is_right(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(# mine\.toml\n.*?)```", (ROOT / "docs" / "howto.md").read_text(), re.DOTALL)
    loaded = load_experiment(write(tmp_path, text))
    assert len(build_grid(loaded.spec, loaded.complaints).cells) == 4
    assert loaded.complaints.found == []


# -- the dry run ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qwen_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("qwen3-experiment")
    real_qwen3(folder)
    (folder / "reference").symlink_to(folder / "reasoning")
    folders = {side: folder / side for side in ("base", "reasoning", "reference")}
    for side, config in (("base", QWEN3_06B), ("reasoning", QWEN3_8B)):
        (folders[side] / "config.json").write_text(json.dumps(config))
    return folders


def dry_run(folders: dict[str, Path], problems: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    monkeypatch.setenv("RRTI_PROBLEMS", str(problems))
    monkeypatch.setenv("COLUMNS", "80")
    tokenizers = [option for side, folder in folders.items() for option in ("--tokenizer", f"{side}={folder}")]
    return CliRunner().invoke(app, ["experiment", "paper-qwen3-0.6b", "--dry-run", *tokenizers, *more])


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    write_benchmarks(tmp_path)
    return tmp_path


def test_the_dry_run_is_right_with_qwen3s_tokenizer(
    qwen_folders: dict[str, Path], problems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = dry_run(qwen_folders, problems, monkeypatch, "--json")
    assert done.exit_code == 0, done.exception
    plan = json.loads(done.stdout)
    qwen = Tokenizer.from_file(str(qwen_folders["base"] / "tokenizer.json"))
    request = "Reason step by step, and put the final answer within \\boxed{}."
    base = f"Problem: What is 1 and 1?\n{request}\nSolution:"
    chat = f"What is 1 and 1?\n\nPlease r{request[1:].replace('the final', 'your final')}"
    reasoning = f"<|im_start|>user\n{chat}<|im_end|>\n<|im_start|>assistant\n"
    shown = plan["prompts"]
    assert (shown["base"]["text"], shown["reasoning"]["text"]) == (base, reasoning)
    for side, text in (("base", base), ("reasoning", reasoning)):
        assert shown[side]["token_ids"] == qwen.encode(text, add_special_tokens=False).ids
        assert shown[side]["context"] == 32_768
    draft, scores = (entry["body"] for entry in plan["requests"])
    assert draft["input_ids"] == [shown["base"]["token_ids"]]
    [params] = draft["sampling_params"]
    assert (params["max_new_tokens"], params["temperature"], params["top_p"]) == (12, 0.6, 0.95)
    assert sorted(params["stop_token_ids"]) == [151_643, 151_645]
    # The draft is stood in for by the question's own tokens, which the reasoning server sees after its own prompt.
    n = shown["reasoning"]["tokens"]
    assert scores["input_ids"][0][:n] == shown["reasoning"]["token_ids"]
    assert scores["input_ids"][0][n:] == qwen.encode("What is 1 and 1?").ids[:12]
    assert scores["logprob_start_len"] == [n - 1]
    assert scores["top_logprobs_num"] == [20]
    assert scores["sampling_params"][0]["max_new_tokens"] == 0


def test_the_dry_run_counts(qwen_folders: dict[str, Path], problems: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = json.loads(dry_run(qwen_folders, problems, monkeypatch, "--json", "--limit", "5").stdout)
    assert len(plan["runs"]) == 1 + 6 * 12
    rows = {(row["evaluation"], row["run"]): row for row in plan["runs"]}
    assert rows["calibration", "diagnose"]["samples"] == 5
    assert rows["gsm8k", "base"] == {
        "evaluation": "gsm8k",
        "run": "base",
        "samples": 40,
        "tokens": 40 * 500,
        "most_tokens": 40 * 8192,
        "requests": 40,
        "disk_bytes": 20_000 * (40 + 20 * 3.8),
        "most_disk_bytes": round(40 * 8192 * (40 + 20 * 3.8)),
    }
    assert rows["aime24", "reference"]["tokens"] == 40 * 14_000
    assert rows["aime24", "guided r=0.13"]["most_tokens"] == 40 * 30_720
    memory = [note for note in plan["notes"] if note.startswith("Memory, base with reasoning")]
    assert [
        re.search(r"Qwen/\S+: weights \S+ GiB", note)[0]  # type: ignore[index]
        for note in memory
    ] == ["Qwen/Qwen3-0.6B-Base: weights 1.1 GiB", "Qwen/Qwen3-8B: weights 15.3 GiB"]


def test_the_printed_plan_fits_80_columns(
    qwen_folders: dict[str, Path], problems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = dry_run(qwen_folders, problems, monkeypatch)
    assert done.exit_code == 0, done.exception
    lines = done.stdout.splitlines()
    assert max(len(line) for line in lines if str(problems.parent) not in line and "tokenizer" not in line) <= 80
    assert "olympiadbench" in done.stdout
    assert lines[-1] == "Nothing was started. Leave out --dry-run to run it."


def test_a_prompt_that_does_not_fit_with_its_solution(
    qwen_folders: dict[str, Path], problems: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = json.dumps({"problem": "long " * 3000, "answer": "1"})
    (problems / "aime24.jsonl").write_text(row)
    done = dry_run(qwen_folders, problems, monkeypatch)
    assert re.search(
        r"line \d+, evaluations\[2\].max_new_tokens: The base prompt has 30\d\d tokens; with max_new_tokens = 30720 that is "
        r"more than the 32762 that the base server takes in all",
        str(done.exception),
    )


# -- estimates ------------------------------------------------------------------------------------------------------


def grid_of(tmp_path: Path, text: str = SMALL) -> Grid:
    loaded = load_experiment(write(tmp_path, text))
    return build_grid(loaded.spec, loaded.complaints)


def cell(grid: Grid, label: str) -> Cell:
    [found] = [cell for cell in grid.all_cells if cell.label == label]
    return found


def test_bytes_and_requests(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, SMALL.replace("k = 0", "k = 20") + '[[programs]]\nprogram = "random"\nbudget = 0.5\n')
    base, guided, diagnose, random = (cell(grid, name) for name in ("base", "guided r=0.08", "diagnose", "random 50%"))
    assert bytes_a_token(guided, 100) == pytest.approx(75 + 20 * 6.3)
    assert bytes_a_token(base, 100) == pytest.approx(40 + 20 * 3.8)
    assert (requests_for(base, 10, 600), requests_for(diagnose, 10, 600)) == (10, 20)
    assert requests_for(guided, 10, 1200) == 280  # 0.23 a token, docs/performance.md
    assert requests_for(random, 10, 1200) == 125 + 600
    unknown = cell_cost(base, 4, 110, 56)
    assert (unknown.samples, unknown.tokens, unknown.most_tokens, unknown.disk_bytes) == (4, None, 440, None)


def test_what_is_left_is_measured_on_the_most_similar_run(tmp_path: Path) -> None:
    grid = grid_of(tmp_path)
    base, guided, reasoning = (cell(grid, name) for name in ("base", "guided r=0.08", "reasoning"))
    assert seconds_left([], [Waiting(base, 4)]) is None
    assert seconds_left([], []) == 0.0
    measured = [Measured(base, 10, 500, 1.0)]
    assert seconds_left(measured, [Waiting(base, 20)]) == pytest.approx(2.0)
    assert seconds_left(measured, [Waiting(guided, 20)]) == pytest.approx(2.0)
    measured.append(Measured(guided, 10, 700, 7.0))
    # 20 samples of the mean length of what the base model writes, at the speed of guided decoding.
    assert seconds_left(measured, [Waiting(guided, 20)]) == pytest.approx(20 * 60 * 7.0 / 700)
    assert seconds_left(measured, [Waiting(guided, 20), Waiting(base, 10)]) == pytest.approx(12.0 + 600 / 500)
    planned = grid_of(tmp_path, SMALL.replace("limit = 4", "typical_reasoning_tokens = 1000"))
    assert seconds_left(measured, [Waiting(cell(planned, "reasoning"), 1)]) == pytest.approx(1000 * 7.0 / 700)
    assert seconds_left(measured, [Waiting(reasoning, 1)]) == pytest.approx(70 * 7.0 / 700)
