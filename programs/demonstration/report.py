"""The demonstration's tables, from the store alone; printed in the terminal and written as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rrti_sgl import __version__
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.demonstration.demo import MAIN, TEMPERATURE, DemoRuns
from rrti_sgl.programs.reporting.conditions import conditions
from rrti_sgl.programs.tables.accuracy import accuracy_table
from rrti_sgl.programs.tables.markdown import table_block
from rrti_sgl.programs.tables.numbers import SHARE
from rrti_sgl.programs.tables.safe_text import markdown_prose
from rrti_sgl.programs.tables.table import Column, Table, rows_table

TOP_SHARE = 0.08


def report_tables(store: Store, runs: DemoRuns) -> list[Table]:
    """All tables of the demonstration."""
    return [
        _accuracy_table(store, runs.greedy, "Greedy decoding"),
        _margins_table(store, runs.greedy),
        _accuracy_table(store, runs.sampled, f"Sampled at temperature {TEMPERATURE:g}"),
        _sparsity_table(store, runs),
        _planning_table(store, runs),
    ]


def _accuracy_table(store: Store, runs: Mapping[str, str], title: str) -> Table:
    found = run_query(store, "accuracy", run=list(runs.values()), base=runs["base"], reasoning=runs["reasoning"]).to_pylist()
    by_run = {row["run_id"]: row for row in found}
    k = found[0]["k"]
    counted = f"{store.get_run(runs['base']).n_problems} held-out problems" + (f", {k} samples each" if k > 1 else "")
    table = accuracy_table(f"{title}: {counted}", [by_run[run_id] for run_id in runs.values()], [*runs])
    note = f"same rho: as often as {MAIN} took over; matched: at random, but as early or late as there."
    return replace(table, notes=[*table.notes, note])


def _margins_table(store: Store, runs: Mapping[str, str]) -> Table:
    """How far guided is ahead of base and of both controls, on the same problems."""
    chosen = {
        label: run for label, run in runs.items() if label.startswith(("base", "random", "matched", "early", "entropy"))
    }
    named = {"base": runs["base"], "guided": runs[MAIN]}
    found = run_query(store, "ablation", run=[*chosen.values(), runs[MAIN]], **named).to_pylist()
    over = {row["run_id"]: [row[f"accuracy_over_guided{end}"] for end in ("", "_low", "_high")] for row in found}
    rows = []
    for label, run_id in chosen.items():
        behind, low, high = over[run_id]
        rows.append({"run": label, "difference": -behind, "difference_low": -high, "difference_high": -low})
    return rows_table(
        f"{MAIN} is ahead of ... by",
        rows,
        [Column("run", ""), Column("difference", "points of accuracy")],
        notes=["Greedy, the same problems; bootstrap over problems."],
    )


def _sparsity_table(store: Store, runs: DemoRuns) -> Table:
    rows = []
    for metric in ("ce", "reverse_kl", "entropy_base"):
        found = run_query(store, "sparsity", run=runs.diagnose, metric=metric, carried=[0.8]).to_pylist()
        values = {row["statistic"]: row["value"] for row in found}
        rows.append({"metric": metric, **values, "n_tokens": found[0]["n_tokens"]})
    columns = [
        Column("metric"),
        Column("gini", "Gini"),
        Column("tokens_carrying", "tokens that carry 80 %", SHARE),
        Column("n_tokens", "tokens"),
    ]
    note = (
        "ce: CE(p_b, p_r), the paper's score. reverse_kl: ce minus the base model's entropy, which can be most of it: what "
        "holds of ce alone may hold of uncertainty."
    )
    return rows_table("Sparsity of the disagreement on base rollouts", rows, columns, notes=[note])


def _planning_table(store: Store, runs: DemoRuns) -> Table:
    found = run_query(store, "planning", run=runs.diagnose, metric=["ce", "reverse_kl"], p=TOP_SHARE).to_pylist()
    # Base entropy and all tokens have the same rows beside each metric.
    found = [row for row in found if row["tokens"] == "top_metric" or row["metric"] == "ce"]
    found = [row for row in found if row["tokens"] != "takeovers" and row["within"] != "sample"]
    guided = run_query(store, "planning", run=runs.greedy[MAIN], metric="ce", p=TOP_SHARE).to_pylist()
    found += [row for row in guided if row["tokens"] == "takeovers"]
    names = ("share", "odds_over_all", "n_tokens")
    rows = [
        {"tokens": _SETS[row["tokens"]].format(**row), **{name: row[name] for name in names}}
        for row in found
        if row["part"] == "planning"
    ]
    columns = [Column("tokens"), Column("share", "planning words"), Column("odds_over_all", "odds over all")]
    notes = ["odds over all: odds of a planning word there over those among all tokens of the run."]
    return rows_table("Planning words", rows, [*columns, Column("n_tokens", "n")], notes=notes)


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
        {"guided": runs.greedy[MAIN], "base": runs.greedy["base"]},
    ).to_pylist()
    if not found:
        raise UsageError("Guided decoding put no wrong answer right.", "Run the demonstration with more problems.")
    return str(found[0]["sample_id"])


_SETS = {
    "all": "all (base rollouts)",
    "top_metric": "top 8 % by {metric}",
    "top_entropy": "top 8 % by base entropy",
    "takeovers": "takeovers (guided)",
}


def write_report(path: Path, store: Store, tables: Sequence[Table]) -> None:
    """Write the tables as a Markdown page, after what their runs were made with."""
    head = [f"# rrti-sgl demonstration (version {__version__})", *map(markdown_prose, conditions(store.find_runs()))]
    pages = [*head, *(table_block(table, "##") for table in tables)]
    path.write_text("\n\n".join(pages) + "\n", encoding="utf-8")
