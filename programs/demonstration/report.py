"""The demonstration's tables, from the store alone; printed in the terminal and written as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from rrti_sgl import __version__
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.demonstration.demo import TEMPERATURE, DemoRuns
from rrti_sgl.records import FloatArray
from rrti_sgl.statistics.estimates import paired_bootstrap_difference, share_interval

BOOTSTRAP_SEED = 0
TOP_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table ready to print: cells are text already."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: str = ""

    def markdown(self) -> str:
        """The table as Markdown under a heading."""
        cells = [[row[0].replace("  ", "&nbsp;&nbsp;"), *row[1:]] for row in self.rows]
        body = tabulate(cells, headers=self.columns, tablefmt="github", disable_numparse=True)
        return f"## {self.title}\n\n{body}\n" + (f"\n{self.notes}\n" if self.notes else "")


def report_tables(store: Store, runs: DemoRuns) -> list[ReportTable]:
    """All tables of the demonstration."""
    return [
        _accuracy_table(store, runs.greedy, "Greedy decoding"),
        _margins_table(store, runs.greedy),
        _accuracy_table(store, runs.sampled, f"Sampled at temperature {TEMPERATURE:g}"),
        _sparsity_table(store, runs),
        _planning_table(store, runs),
    ]


def _accuracy_table(store: Store, runs: Mapping[str, str], title: str) -> ReportTable:
    found = run_query(store, "accuracy", run=list(runs.values()), base=runs["base"], reasoning=runs["reasoning"]).to_pylist()
    by_run = {row["run_id"]: row for row in found}
    k = found[0]["k"]
    rows = []
    for label, run_id in runs.items():
        row = by_run[run_id]
        interval = share_interval(_accuracy_by_problem(store, run_id), BOOTSTRAP_SEED)
        alone = label in ("base", "reasoning")
        recovered = [_percent(row["recovery_accuracy"])] + ([_percent(row["recovery_pass"])] if k > 1 else [])
        rows.append(
            [
                label,
                "" if alone else f"{row['rho_pooled']:.3f}",
                "" if alone else f"{row['changed']:.3f}",
                f"{row['accuracy']:.1%} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]",
                *([f"{row['pass_at_k']:.1%}"] if k > 1 else []),
                " / ".join(recovered),
            ]
        )
    run = store.get_run(runs["base"])
    counted = f"{run.n_problems} held-out problems" + (f", {k} samples each" if k > 1 else "")
    columns = ["", "rho", "changed", "accuracy [95 %]", *([f"pass@{k}"] if k > 1 else []), "recovery"]
    return ReportTable(
        f"{title}: {counted}",
        columns,
        rows,
        "rho: takeovers per token. changed: takeovers that differ from what the base model drew, per token. "
        "recovery: share of the way from base to reasoning" + (f", on accuracy / pass@{k}." if k > 1 else "."),
    )


def _margins_table(store: Store, runs: Mapping[str, str]) -> ReportTable:
    """How far guided is ahead of base and of both controls, on the same problems."""
    guided = guided_label(runs)
    ours = _accuracy_by_problem(store, runs[guided])
    rows = []
    for label, run_id in runs.items():
        if label == "base" or label.startswith(("random", "early", "entropy")):
            difference = paired_bootstrap_difference(ours, _accuracy_by_problem(store, run_id), BOOTSTRAP_SEED)
            estimate, low, high = (100 * x for x in (difference.estimate, difference.low, difference.high))
            rows.append([label, f"{estimate:+.1f} [{low:+.1f}, {high:+.1f}]"])
    return ReportTable(
        f"{guided} is ahead of ... by",
        ["", "points of accuracy [95 %]"],
        rows,
        "Greedy, the same problems; bootstrap over problems.",
    )


def _sparsity_table(store: Store, runs: DemoRuns) -> ReportTable:
    rows = []
    for metric in ("ce", "reverse_kl", "entropy_base"):
        found = run_query(store, "sparsity", run=runs.diagnose, metric=metric, carried=[0.8]).to_pylist()
        value = {row["statistic"]: row["value"] for row in found}
        n_tokens = found[0]["n_tokens"]
        rows.append([metric, f"{value['gini']:.3f}", f"{value['tokens_carrying']:.1%}", f"{n_tokens:,}"])
    return ReportTable(
        "Sparsity of the disagreement on base rollouts",
        ["metric", "Gini", "tokens that carry 80 %", "tokens"],
        rows,
        "ce: CE(p_b, p_r), the paper's score. reverse_kl: CE minus the base model's entropy.",
    )


def _planning_table(store: Store, runs: DemoRuns) -> ReportTable:
    found = run_query(store, "planning", run=runs.diagnose, p=TOP_SHARE).to_pylist()
    found = [row for row in found if row["tokens"] != "takeovers"]
    guided = run_query(store, "planning", run=runs.greedy[guided_label(runs.greedy)], p=TOP_SHARE).to_pylist()
    found += [row for row in guided if row["tokens"] == "takeovers"]
    rows = [
        [_SETS[row["tokens"]], f"{row['share']:.1%}", f"{row['enrichment']:.2f}", f"{row['n_tokens']:,}"]
        for row in found
        if row["part"] == "planning"
    ]
    return ReportTable("Planning words", ["tokens", "planning words", "enrichment", "n"], rows)


def guided_label(runs: Mapping[str, str]) -> str:
    """The guided row that the claims are made of: the larger budget, without lambda."""
    return next(label for label in reversed(list(runs)) if label.startswith("guided") and "lambda" not in label)


def restored_sample(store: Store, runs: DemoRuns) -> str:
    """A sample to look at: base is wrong on the problem, guided right, by the fewest takeovers that changed a token.

    Raises:
        UsageError: guided put nothing right.
    """
    found = store.sql(
        """
        SELECT guided.sample_id
        FROM samples AS guided JOIN samples AS base USING (problem_id)
        WHERE guided.run_id = $guided AND base.run_id = $base AND guided.correct AND NOT base.correct
        ORDER BY guided.n_changed, guided.n_tokens DESC, guided.sample_id LIMIT 1
        """,
        {"guided": runs.greedy[guided_label(runs.greedy)], "base": runs.greedy["base"]},
    ).to_pylist()
    if not found:
        raise UsageError("Guided decoding put no wrong answer right.", "Run the demonstration with more problems.")
    return str(found[0]["sample_id"])


_SETS = {
    "all": "all (base rollouts)",
    "top_metric": "top 8 % by disagreement",
    "top_entropy": "top 8 % by base entropy",
    "takeovers": "takeovers (guided)",
}


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _accuracy_by_problem(store: Store, run_id: str) -> FloatArray:
    """(P,) share of right samples of each problem, in the order of problem ids."""
    table = store.sql(
        "SELECT avg(correct::INTEGER) AS accuracy FROM samples WHERE run_id = $run GROUP BY problem_id ORDER BY problem_id",
        {"run": run_id},
    )
    return np.asarray(table.column(0).to_numpy(), dtype=np.float64)


def write_report(path: Path, tables: Sequence[ReportTable]) -> None:
    """Write the tables as a Markdown page."""
    pages = [f"# rrti-sgl demonstration (version {__version__})\n", *(table.markdown() for table in tables)]
    path.write_text("\n".join(pages), encoding="utf-8")
