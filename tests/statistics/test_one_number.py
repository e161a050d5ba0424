"""A number has one interval, whichever statistic, page or command shows it."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.programs.demonstration.demo import DemoRuns
from rrti_sgl.programs.demonstration.report import report_tables
from rrti_sgl.programs.reporting.report import make_report
from rrti_sgl.programs.stored.whatif import WhatIfOptions, what_if
from tests.statistics.conftest import write_run

RIGHT = {"base": 0.2, "guided": 0.8, "random": 0.4, "reasoning": 1.0, "diagnose": 0.2}
SHOWN = {"base": "base", "guided r=0.08": "guided", "random 25%": "random", "reasoning": "reasoning"}
# What a number is called elsewhere.
SAME = {"rho": "rho_pooled", "budget": "rho_pooled", "accuracy_over_base": "difference"}


@pytest.fixture
def filled(store, build):
    """Eight problems, three samples each; guided fires where its gate says."""
    rng = np.random.default_rng(3)
    store.add_problems([build["problem"](f"p{i}") for i in range(8)])
    for program, right in RIGHT.items():
        traces = []
        for number in range(24):
            ce = np.round(rng.exponential(1.0, 12), 3)
            takes = {"guided": ce > 1.5, "random": rng.random(12) < 0.25, "reasoning": np.ones(12, dtype=bool)}
            fired = takes.get(program, np.zeros(12, dtype=bool))
            tokens = {
                "fired": fired,
                "planning_tag": [["goal", None][j % 2] for j in range(12)],
                "entropy_base": ce / 2,
                "reverse_kl": ce / 2,
            }
            changed = {"n_changed": int(fired.sum()) // 2, "correct": bool(rng.random() < right)}
            traces.append(build["trace"](program, f"p{number // 3}", number % 3, ce, tokens=tokens, **changed))
        gate = {"gate": "divergence", "tau": 1.5} if program == "guided" else {"gate": "never", "tau": None}
        write_run(store, program, traces, program=program, n_problems=8, samples_per_problem=3, **gate)
    return store


@pytest.mark.usefixtures("drawn_once")
def test_one_interval_in_every_statistic_and_page(filled):
    found: dict[tuple[str, str], dict[str, tuple[float, ...]]] = defaultdict(dict)

    def add(where, rows):
        for row in rows:
            run = SHOWN.get(str(row.get("run")).strip(), row.get("run_id") or row.get("run"))
            for column in row:
                if f"{column}_low" in row and row[f"{column}_low"] is not None:
                    numbers = tuple(row[f"{column}{end}"] for end in ("", "_low", "_high"))
                    found[run, SAME.get(column, column)][where] = numbers

    runs = [*SHOWN.values()]
    add("accuracy", run_query(filled, "accuracy", run=runs, base="base", reasoning="reasoning").to_pylist())
    add("ablation", run_query(filled, "ablation", run=runs).to_pylist())
    add("budget", run_query(filled, "budget", run=runs[:2]).to_pylist())
    add("flips", run_query(filled, "flips", run=runs).to_pylist())
    greedy, margins, *_ = report_tables(filled, DemoRuns("diagnose", SHOWN, SHOWN))
    add("demonstration", greedy.data.to_pylist())
    add("what if", what_if(filled, "guided", WhatIfOptions(stored=True)).rows)
    for table in make_report(filled).tables:
        if table.name.startswith(("accuracy", "ablation", "budget", "flips")):
            add(f"report, {table.name}", table.data.to_pylist())
    for (run, column), numbers in found.items():
        for where, each in numbers.items():
            assert each == pytest.approx(next(iter(numbers.values())), abs=1e-12), f"{column} of {run}: {where}"
    seen = {key: {where.split(",")[0] for where in numbers} for key, numbers in found.items()}
    assert seen["guided", "accuracy"] == {"accuracy", "ablation", "budget", "demonstration", "report"}
    assert seen["guided", "rho_pooled"] == {"accuracy", "ablation", "budget", "what if", "report"}
    assert seen["guided", "recovery_accuracy"] == {"accuracy", "ablation", "report"}
    assert seen["guided", "difference"] == {"ablation", "flips", "report"}
    for row in margins.data.to_pylist():
        behind = found[SHOWN[row["run"]], "accuracy_over_guided"]["ablation"]
        assert [-row["difference"], -row["difference_high"], -row["difference_low"]] == pytest.approx(behind)
