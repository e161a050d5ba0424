"""The guard of the intervals: they hold the number they are of about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from interval_coverage import DRAWS, GATES, HIGHEST, LOWEST, WHATIF, Row, as_csv, failures, measure

from rrti_sgl.db.definitions import coverage_table
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.programs.stored.whatif import WhatIfOptions, what_if
from tests.statistics.conftest import random_traces, write_run


def as_row(line) -> Row:
    some = [float(line[name]) for name in ("least", "median", "most") if line[name]]
    rare = [float(line["least_rare"])] if line["least_rare"] else []
    about = (line["statistic"], line["part"], line["column"], int(line["problems"]), int(line["draws"]))
    return Row(*about, coverages=some, of_rare=rare)


def test_the_table_holds():
    rows = [as_row(line) for line in coverage_table()]
    assert failures(rows) == []
    assert {n: max(row.draws for row in rows if row.problems == n) for n in DRAWS} == DRAWS
    of_all = [row.coverages[1] for row in rows if row.coverages]
    assert LOWEST < np.median(of_all) < HIGHEST
    assert {row.statistic for row in rows} == {*QUERIES, WHATIF}
    assert {row.part for row in rows if row.statistic == "causality"} == {"all", "decile", "position", "word"}
    assert {row.part for row in rows if row.statistic == "accuracy"} == {"run", "average", "seeds"}
    assert {row.part for row in rows if row.statistic == WHATIF} == set(GATES)


def test_every_interval_of_every_statistic_is_in_the_table(store):
    """A new interval is simulated before it is shown."""
    for run_id, program in (("b", "base"), ("g", "guided"), ("t", "reasoning")):
        fires = 0.0 if program == "base" else 0.3  # thresholds are taken from runs without takeovers
        write_run(store, run_id, random_traces(np.random.default_rng(1), run_id, problems=6, fires=fires), program=program)
    of_gates = {line["column"] for line in coverage_table() if line["statistic"] == WHATIF}
    [row] = what_if(store, "b", WhatIfOptions(tau=1.0)).rows
    assert of_gates == {each.removesuffix("_low") for each in row if each.endswith("_low")}
    wanted = {name for name in QUERIES if name not in ("planning", "causality", "pivotal", "reallocation")}
    # They need tags, arms and lists: in the slow test.
    there = {(line["statistic"], line["column"]) for line in coverage_table() if line["statistic"] in wanted}
    found = set()
    for name in wanted:
        columns = run_query(store, name, run=["b", "g"] if name == "flips" else None, resamples=20).column_names
        found |= {(name, each.removesuffix("_low")) for each in columns if each.endswith("_low") and each != "u_low"}
    assert there == found


def test_what_does_not_cover_is_named():
    rows = [
        Row("a", "", "x", 100, 400, coverages=[0.95, 0.88]),
        Row("b", "", "x", 100, 400, coverages=[0.90, 0.990]),
        Row("c", "p", "x", 100, 400, coverages=[1.0], of_rare=[1.0]),
        Row("c", "p", "x", 30, 400, coverages=[1.0], of_rare=[0.88]),
    ]
    assert failures(rows) == ["a  x, 100 problems: 0.880", "c p x, 100 problems: 1.000", "c p x, 30 problems: 0.880"]


@pytest.mark.slow
def test_intervals_cover(tmp_path):
    """Every interval of every statistic, over repeated draws from a known population; half an hour.

    The committed table says what is found again, but for a few draws that another order of sums may turn.
    """
    rows = measure(tmp_path)
    assert failures(rows) == []
    found, committed = as_csv(rows), coverage_table()
    assert [list(line.values())[:4] for line in found] == [list(line.values())[:4] for line in committed]
    for ours, theirs in zip(found, committed, strict=True):
        for name in ("least", "median", "most", "least_rare"):
            values = [float(line[name] or "nan") for line in (ours, theirs)]
            assert values[0] == pytest.approx(values[1], abs=0.02, nan_ok=True), f"{name}: {ours}, {theirs}"
