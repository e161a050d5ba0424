"""Counterfactual runs in the report: pooled in their own sections, absent from those of whole solutions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.store import Store
from rrti_sgl.programs.reporting.context import Content, ReportContext
from rrti_sgl.programs.reporting.headlines import headline
from rrti_sgl.programs.reporting.listing import list_runs
from rrti_sgl.programs.reporting.published import load_published
from rrti_sgl.programs.reporting.report import _runs_table
from rrti_sgl.programs.reporting.runs import select_runs
from rrti_sgl.programs.reporting.sections import cost, decisions
from rrti_sgl.programs.tables.terminal import fitted
from tests.db.conftest import make_problem, make_run, make_trace
from tests.statistics.test_causality import kept

SECTIONS = {section.name: section for section in (*decisions.SECTIONS, *cost.SECTIONS)}


@pytest.fixture
def context(tmp_path: Path, empty_store: Path) -> Iterator[ReportContext]:
    """One guided run, each of whose samples was searched for pivotal tokens and drawn anew from its sentences on."""
    path, draws = tmp_path / "traces.duckdb", np.random.default_rng(3)
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as store:
        store.add_problems([make_problem(f"p{i}") for i in range(6)])
        store.begin_run(make_run("guided-1", program="guided", gate="divergence", n_problems=6, samples_per_problem=1))
        for i in range(6):
            tokens = {"fired": [j in (2, 5) for j in range(20)], "entropy_base": draws.exponential(size=20)}
            parent = make_trace("guided-1", f"p{i}", 0, draws.exponential(size=20), correct=True, tokens=tokens)
            store.write_samples([parent])
            answers = {-1: "abcb", 1: "abbb", 2: "aabb", 19: "aabc"}
            kept(store, {"trace": make_trace}, f"search-{i}", parent, [[0, 19]], answers, unit="pivotal", gap=0.2)
            kept(store, {"trace": make_trace}, f"anew-{i}", parent, [[0, 2], [3, 19]], answers)
        yield ReportContext(TokenReader(store), select_runs(store), load_published())


def shown(content: Content) -> dict[str, list[str]]:
    return {table.name: [column.name for column in table.columns] for table in content.tables}


def test_what_a_row_says_is_said_once(context: ReportContext) -> None:
    content = SECTIONS["pivotal"].build(context)
    columns = shown(content)
    assert set(columns) == {f"pivotal-{part}" for part in ("all", "decile", "fired", "position", "word")}
    assert columns["pivotal-decile"][:4] == ["predictor", "decile", "n_tokens", "n_pivotal"]
    assert columns["pivotal-fired"] == [
        *("label", "n_tokens", "n_open", "n_pivotal", "pivotal", "control", "lead", "jump", "raises")
    ]
    for table in (*content.tables, *SECTIONS["causality"].build(context).tables):
        assert table.title.endswith("(guided τ=0.5)")
        assert "run" in table.data.column_names
        assert not {"run", "metric", "n_problems"} & {column.name for column in table.columns}
    [whole] = [row for table in content.tables[:1] for row in table.cells]
    assert [cell.partition(" ")[0] for cell in whole[-2:]] == ["25.0%", "100.0%"]  # a jump has no sign


def test_what_continues_a_sample_is_no_run_of_whole_solutions(context: ReportContext) -> None:
    assert {table.name: table.data.num_rows for table in SECTIONS["cost"].build(context).tables} == {
        "cost-time": 1,
        "cost-requests": 1,
        "cost-prompts": 1,
    }
    takeovers = SECTIONS["takeovers"].build(context)
    assert shown(takeovers)["takeovers"] == ["part", "label", "guided τ=0.5"]
    assert not takeovers.missing
    runs = _runs_table(context.store, context.selection)
    assert runs.data["run"].to_pylist() == ["guided τ=0.5"]
    assert runs.notes[0].startswith("Of all runs: ")
    continued = context.selection.of_programs("counterfactual")
    assert f"Beside them: {len(continued)} counterfactual runs of 1" in runs.notes[1]
    only = select_runs(context.store, continued)
    alone = _runs_table(context.store, only)
    assert set(alone.data["samples_per_problem"].to_pylist()) == {None}
    names = {name.partition(" τ")[0] for name in alone.data["run"].to_pylist()}
    assert names == {"counterfactual pivotal", "counterfactual sentence"}
    assert [table.title for table in list_runs(context.store)][-1] == "Continuations of samples"


def test_a_narrow_terminal_has_what_pivotal_tokens_lead_by(context: ReportContext) -> None:
    [table] = headline(context.store, "pivotal", resamples=200)
    assert [column.name for column in fitted(table, 80).columns][-2:] == ["pivotal", "lead"]
