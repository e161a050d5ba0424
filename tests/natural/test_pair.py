"""The shipped adapter on real servers: the experiment's first problems, from the file that `make natural` runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from natural_pair import __main__ as making
from natural_pair.expert_iteration import HERE
from natural_pair.pretrained import MissingError
from rrti_sgl.db.store import Store
from rrti_sgl.programs.experiments.finished import STORE, FinishedExperiment

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(1800)]
ROOT = HERE.parents[1]
PROBLEMS = 8


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, with all runs finished."""
    out = tmp_path_factory.mktemp("natural")
    try:
        made = making.Making(out, making.Sizes(), lambda *report: None)
    except MissingError as error:
        pytest.skip(str(error))
    made.problem_files()
    made.from_shipped()
    text = (HERE / "natural.toml").read_text(encoding="utf-8").replace("../../build/natural", str(out))
    for name in ("base.toml", "reasoning.toml"):
        text = text.replace(f'"{name}"', f'"{HERE / name}"')
    (out / "natural.toml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "rrti_sgl.cli.main", "experiment", str(out / "natural.toml"), "--limit", str(PROBLEMS)]
    done = subprocess.run([*command, "--out", str(out / "out")], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "out"


def test_every_run_of_the_file_is_finished_and_the_reasoning_model_is_ahead(experiment: Path) -> None:
    new_numbers, new_stories = FinishedExperiment.read(experiment).evaluations
    assert {"base", "diagnose", "guided r=0.08", "reasoning"} <= set(new_numbers.runs)
    assert {"base", "guided r=0.08", "reasoning"} <= set(new_stories.runs)
    with Store.open_readonly(experiment / STORE) as store:
        rows = store.sql("SELECT run_id, sum(correct::INT) AS right, count(*) AS n FROM samples GROUP BY run_id").to_pylist()
    found = {row["run_id"]: row for row in rows}
    assert all(found[run]["n"] == PROBLEMS for part in (new_numbers, new_stories) for run in part.runs.values())
    assert found[new_numbers.runs["reasoning"]]["right"] > found[new_numbers.runs["base"]]["right"] + 2
