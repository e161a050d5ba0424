"""Statistics of scores that only some tokens of a run have: refused, or the share is said; and metrics beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rrti_sgl.db.queries import QUERIES, parameters_of, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from tests.statistics.conftest import METRICS, random_traces, rows, write_run

OF_SCORES = ("sparsity", "position", "uncertainty", "planning", "failure", "metrics", "planted")
COMPARED = tuple(name for name in METRICS if name != "entropy_base")


def gated(store: Store, run: str, kept: float = 0.0, **changes: Any) -> dict[str, float]:
    """A run whose divergences are there where the gate fired, and at a share `kept` of the other tokens; those shares."""
    rng = np.random.default_rng(4)
    traces = random_traces(rng, run, problems=8, fires=0.1)
    there, n = 0, 0
    for trace in traces:
        missing = ~trace.tokens.fired & (rng.random(trace.sample.n_tokens) >= kept)
        for name in COMPARED:
            getattr(trace.tokens, name)[missing] = np.nan
        trace.tokens.planning_tag[0] = "plan"
        there, n = there + int((~missing).sum()), n + len(missing)
    write_run(store, run, traces, **changes)
    return {"there": there, "tokens": n, "covered": there / n}


@pytest.mark.parametrize("name", OF_SCORES)
def test_scores_at_takeovers_only_are_no_scores_of_the_run(store, name):
    made = gated(store, "e", program="entropy", metric="entropy_base")
    params = {} if name == "planted" else {"run": "e"}
    if name == "planted":
        found = [row for row in rows(store, name) if row["metric"] != "entropy_base"]
        assert {row["covered"] for row in found} == {made["covered"]}
        assert {row[each] for row in found for each in ("auroc", "average_precision", "precision", "f1")} == {None}
        assert all(row["covered"] == 1 for row in rows(store, name) if row["metric"] == "entropy_base")
        return
    message = rf"run e: {made['there']} of its {made['tokens']} tokens \(.*%\) have .*ce.*, those that its gate chose"
    with pytest.raises(UsageError, match=message):
        run_query(store, name, **params)
    found = rows(store, name, least_coverage=0, **params)
    assert {row["covered"] for row in found if row.get("predictor") not in ("entropy_base", "length")} == {made["covered"]}


@pytest.mark.parametrize("name", OF_SCORES)
def test_every_row_says_how_many_tokens_it_is_of(store, name):
    made = gated(store, "g", kept=0.8)
    write_run(store, "whole", random_traces(np.random.default_rng(1), "whole", problems=8))
    for trace_run, covered in (("g", made["covered"]), ("whole", 1.0)):
        if name == "planning" and trace_run == "whole":
            continue
        found = rows(store, name, run=trace_run)
        others = ("entropy_base", "length")  # which every token has
        assert {row["covered"] for row in found if row.get("metric", row.get("predictor")) not in others} == {covered}


def test_a_token_is_covered_where_it_has_all_scores(store):
    """Each score lacks at other tokens."""
    rng = np.random.default_rng(6)
    traces = random_traces(rng, "r", problems=6)
    both, n = 0, 0
    for trace in traces:
        lacking = rng.random((2, trace.sample.n_tokens)) < 0.2
        for name, missing in zip(("ce", "entropy_base"), lacking, strict=True):
            getattr(trace.tokens, name)[missing] = np.nan
        both, n = both + int((~lacking.any(axis=0)).sum()), n + trace.sample.n_tokens
    write_run(store, "r", traces)
    assert {row["covered"] for row in rows(store, "uncertainty", metric="ce")} == {both / n}
    assert {row["n_tokens"] for row in rows(store, "uncertainty", metric="ce")} == {both}


def test_runs_with_too_few_scores_are_left_out_where_none_is_named(store):
    gated(store, "e")
    write_run(store, "d", random_traces(np.random.default_rng(1), "d"))
    assert {row["run_id"] for row in rows(store, "sparsity")} == {"d"}


def test_statistics_of_scores_have_the_parameter_and_others_do_not():
    others = {"transfer", "reallocation"}  # whose rows are of other runs, or need lists
    assert {name for name, query in QUERIES.items() if "least_coverage" in parameters_of(query)} == others | set(OF_SCORES)


def test_the_share_of_graded_samples_is_said(store, build):
    traces = [build["trace"]("r", f"p{i}", 0, correct=None if i < 1 else i % 2 == 0) for i in range(4)]
    write_run(store, "r", traces)
    for name in ("accuracy", "failure"):
        assert {row["graded"] for row in rows(store, name)} == {0.75}


@pytest.mark.parametrize("name", ["sparsity", "position", "uncertainty", "planning", "failure"])
def test_reverse_kl_and_js_stand_beside_ce(store, build, name):
    traces = random_traces(np.random.default_rng(1), "r")
    traces[0].tokens.planning_tag[0] = "plan"
    write_run(store, "r", traces)
    write_run(store, "s", [build["trace"]("s", f"p{i}", 0, correct=i == 0) for i in range(2)])
    column = "predictor" if name == "failure" else "metric"
    known = ["ce", "reverse_kl", "js", *(["entropy_base", "length"] if name == "failure" else [])]
    found = rows(store, name, run=["r"])
    assert list(dict.fromkeys(row[column] for row in found)) == known
    assert len(found) == len({tuple(row.items()) for row in found}), "no row is there twice"
    for metric in known[:3]:
        [*alone] = (row for row in rows(store, name, run=["r"], metric=metric) if row[column] == metric)
        assert alone == [row for row in found if row[column] == metric]
    # A run that lacks them has ce alone, unless they are asked for.
    if name != "planning":
        assert {row[column] for row in rows(store, name, run="s")} & {"ce", "reverse_kl", "js"} == {"ce"}
        with pytest.raises(UsageError, match="run s: js is NULL"):
            run_query(store, name, run="s", metric=["ce", "js"])
