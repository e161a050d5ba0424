"""What the head of a report says of controls: beside the run that they took over as often as."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.store import Store
from rrti_sgl.programs.reporting.context import Finished, ReportContext
from rrti_sgl.programs.reporting.findings import findings
from rrti_sgl.programs.reporting.published import load_published
from rrti_sgl.programs.reporting.runs import select_runs
from rrti_sgl.programs.reporting.sections import outcome
from tests.db.conftest import make_problem
from tests.statistics.conftest import random_traces, write_run


def said(path: Path, empty_store: Path, followed: str | None) -> str:
    """Two guided runs, of which the one of the lower threshold leads, and controls of one of them."""
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as store:
        store.add_problems([make_problem(f"p{i}") for i in range(6)])
        for run, program, tau, gate in (
            ("few", "guided", 2.0, {}),
            ("many", "guided", 1.0, {}),
            ("r", "random", None, {"like": followed}),
            ("t", "matched", None, {"like": followed, "match": "token"}),
            ("p", "matched", None, {"like": followed, "match": "position"}),
        ):
            traces = random_traces(np.random.default_rng(1), run, problems=6, fires=0.3)
            write_run(store, run, traces, program=program, tau=tau, config={"gate": gate})
        context = ReportContext(TokenReader(store), select_runs(store), load_published())
        [accuracy] = [section for section in outcome.SECTIONS if section.name == "accuracy"]
        return findings(context.selection, [Finished(accuracy, "", accuracy.build(context))])[0]


def test_controls_stand_beside_the_run_that_they_follow(tmp_path: Path, empty_store: Path) -> None:
    leading, other, nothing = (said(tmp_path / f"{run}.duckdb", empty_store, run) for run in ("many", "few", None))
    assert all("guided τ=1 took over" in text for text in (leading, other, nothing))
    assert " With as many takeovers of other tokens: " in leading
    assert " With as many takeovers of other tokens as guided τ=2 (" in other
    for text in (leading, other):
        controls = text.rpartition(": ")[2].removesuffix(".").split(", ")
        assert {name.rpartition(" ")[0] for name in controls} == {"random", "matched by token", "matched by position"}
    assert "takeovers of other tokens" not in nothing
