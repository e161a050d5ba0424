"""Code that a stored run names is imported only where the user names it, too."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running.settings import RunSettings, settings_from
from rrti_sgl.programs.scoring.settings import ScoreSettings, TextInput
from tests.db.conftest import make_problem, make_run, make_trace

EVIL = "evil_module_of_a_store:Thing"


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that leaves a mark when it is imported; returns where the mark would be."""
    mark = tmp_path / "was-here"
    (tmp_path / "evil_module_of_a_store.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil_module_of_a_store", raising=False)
    return mark


@pytest.mark.parametrize("option", ["gate", "tagger", "grader"])
def test_stored_settings_import_nothing(tmp_path: Path, evil: Path, option: str) -> None:
    path = tmp_path / "t.duckdb"
    texts = tmp_path / "t.jsonl"
    texts.write_text('{"question": "q", "text": "a"}\n')
    settings = settings_from("guided", tau=0.5, problems="world:heldout").to_dict()
    (settings["gate"] if option == "gate" else settings)[option] = EVIL
    score = ScoreSettings.of(TextInput(str(texts), problems="world:heldout")).to_dict()
    score["gate" if option == "gate" else option] = {**score["gate"], "gate": EVIL} if option == "gate" else EVIL
    trace = make_trace(run_id="r", problem_id="p1")
    with Store.open(path) as store:
        store.add_problems([make_problem("p1"), make_problem("p2")])
        store.begin_run(make_run("r", config={"kind": "run", **settings}))
        store.begin_run(make_run("s", program="score", config={"kind": "score", **score}))
        store.write_samples([trace])
    for command in (["run", "--resume", "r"], ["score", "--resume", "s"], ["counterfactual", trace.sample.sample_id]):
        done = CliRunner().invoke(app, [*command, "--db", str(path)])
        assert isinstance(done.exception, UsageError)
        assert f"names code of its own, {EVIL}" in str(done.exception)
        assert f"--trust {EVIL}" in str(done.exception)
    assert not evil.exists()
    with pytest.raises(UsageError, match="names code of its own"):
        RunSettings.from_dict(settings, trust=["another:Thing"])
    assert RunSettings.from_dict(settings, trust=[EVIL]).to_dict() == settings
    assert not evil.exists()
