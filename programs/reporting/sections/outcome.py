"""What takeovers achieve: accuracy and recovery, flips, budget, ablation; each for the runs that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import Content, ReportContext, Section
from rrti_sgl.programs.reporting.figures.budget import budget_figure
from rrti_sgl.programs.reporting.figures.flips import flips_figure
from rrti_sgl.programs.reporting.figures.style import Drawing, draw
from rrti_sgl.programs.reporting.published import MEASURED, PUBLISHED
from rrti_sgl.programs.reporting.runs import Comparison, called, kind_of, leading_guided
from rrti_sgl.programs.reporting.sections.directions import both_directions
from rrti_sgl.programs.tables.table import Column, Table

Build = Callable[[ReportContext, Comparison], tuple[Table, Sequence[Drawing]]]
_RECOVERY = (
    "recovered: share of the way from the base run to the reasoning run; here to the reasoning model of the pair, in the "
    "published rows to the thinking model of the base model's size."
)

_SEEDS = (
    "sd over seeds: standard deviation of the accuracy of runs that differ in nothing but their seed, what another seed "
    "changes on these problems. The interval of their mean is over problems, and holds the draws as well."
)


def _each_comparison(build: Build) -> Callable[[ReportContext], Content]:
    """A section of one table, and maybe figures, for every group of comparable runs; groups that lack something say so."""

    def content(context: ReportContext) -> Content:
        tables: list[Table] = []
        drawings: list[Drawing] = []
        missing: list[str] = []
        for comparison in context.selection.comparisons:
            try:
                table, drawn = build(context, comparison)
            except UsageError as error:
                missing.append(f"{comparison.title}: {error}")
                continue
            tables.append(table)
            drawings += drawn
        if not tables:
            raise UsageError(" ".join(missing) or "There are no runs of whole solutions to compare.", "")
        return Content(tables, drawings, missing)

    return content


def _accuracy(context: ReportContext, comparison: Comparison) -> tuple[Table, Sequence[Drawing]]:
    base, reasoning = (_of_every_seed(context, comparison, run) for run in (comparison.base, comparison.reasoning))
    data = context.query("accuracy", comparison.runs, comparison.labels, base=base, reasoning=reasoning)
    published = [{**asdict(row), "run": f"{row.label} †", "rho_pooled": row.rho, "k": 8} for row in context.published.rows]
    several = "seeds" in data["part"].to_pylist()
    names = [called(row, comparison.labels) for row in data.to_pylist()]
    data = data.set_column(data.column_names.index("run"), "run", pa.array(names, pa.string()))
    table = Table(
        f"accuracy-{comparison.name}",
        f"Accuracy and recovery: {comparison.title}",
        _with_published(data, published),
        [
            Column("run"),
            Column("rho_pooled", "ρ"),
            Column("changed"),
            Column("truncated", "cut off"),
            Column("accuracy"),
            *([Column("accuracy_sd", "sd over seeds")] if several else []),
            Column("recovery_accuracy", "recovered"),
            Column("k"),
            Column("pass_at_k", "pass@k"),
            Column("recovery_pass", "recovered"),
        ],
        [
            "ρ: takeovers per token. changed: takeovers whose token differs from the base model's, per token. cut off: "
            f"samples that reached the limit before an end. {_RECOVERY}",
            *([_SEEDS] if several else []),
            *context.published.notes(),
        ],
        rule_by="source",
    )
    return table, ()


def _of_every_seed(context: ReportContext, comparison: Comparison, newest: str | None) -> str | list[str] | None:
    """The runs like a reference, where there is one for each seed of those that are compared; else the reference alone."""
    if newest is None:
        return None
    home = next(each.runs for each in context.selection.comparisons if newest in each.runs)
    records = {run.run_id: run for run in context.selection.records}
    alike = [records[run] for run in home if records[run].program == records[newest].program]
    seeds = sorted({records[run].seed for run in comparison.runs})
    return [run.run_id for run in alike] if seeds == sorted(run.seed for run in alike) else newest


def _flips(context: ReportContext, comparison: Comparison) -> tuple[Table, Sequence[Drawing]]:
    if comparison.base is None:
        raise UsageError(
            "Flips are counted against a base run, and there is none among these runs.", "Run it: rrti run base."
        )
    others = [run for run in comparison.runs if run != comparison.base]
    data = context.query("flips", others, comparison.labels, base=comparison.base)
    rows = [row for row in data.to_pylist() if row["run_id"] != comparison.base]
    sampled = comparison.n_samples > 1
    published = {
        "run": "Qwen3, guided †",
        "n_problems": int(context.published.values["flips.problems"].value),
        "rose": int(context.published.values["flips.put_right"].value),
        "fell": int(context.published.values["flips.spoilt"].value),
    }
    data = pa.Table.from_pylist(rows, data.schema)
    single = [
        Column("both_right", "right in both"),
        Column("both_wrong", "wrong in both"),
        Column("difference", "gain in points"),
        Column("p_exact", "McNemar p"),
    ]
    table = Table(
        f"flips-{comparison.name}",
        f"Problems won and lost, against {comparison.labels[comparison.base]}: {comparison.title}",
        data if sampled else _with_published(data, [published]),
        [
            Column("run"),
            Column("n_problems", "problems"),
            Column("rose", "accuracy rose" if sampled else "wrong → right"),
            Column("fell", "accuracy fell" if sampled else "right → wrong"),
            *([Column("difference", "gain in points")] if sampled else single),
        ],
        [
            "Of several samples a problem none is the pair of another: counted are problems whose share of right samples "
            "rose or fell. The paper's flips are of single answers and stand beside none of these."
        ]
        if sampled
        else [
            "McNemar's exact two-sided test; no p where both runs agree on every problem: there is nothing to test.",
            *context.published.notes("flips.put_right"),
        ],
        rule_by=None if sampled else "source",
    )
    name = comparison.labels[comparison.base]
    what = "Problems whose accuracy each run changed, against" if sampled else "Answers of each run against those of"
    caption = f"{what} {name}; counts too small to write are in the table. {comparison.title}."
    return table, [draw(f"flips-{comparison.name}", caption, lambda: flips_figure(rows, name))]


def _budget(context: ReportContext, comparison: Comparison) -> tuple[Table, Sequence[Drawing]]:
    asked = [run for run in comparison.runs if run != comparison.reasoning]
    begun = [comparison.base] if comparison.base is not None and comparison.base not in asked else []
    data = context.query("budget", [*begun, *asked], comparison.labels)
    own = {row["curve_id"] for row in data.to_pylist() if row["run_id"] in asked}
    data = data.filter(pa.array([curve in own for curve in data["curve_id"].to_pylist()]))
    rows = data.to_pylist()
    k = rows[0]["k"]
    table = Table(
        f"budget-{comparison.name}",
        f"What a budget buys: {comparison.title}",
        data,
        [
            Column("curve"),
            Column("run"),
            Column("rho", "ρ"),
            Column("accuracy"),
            Column("pass_at_k", f"pass@{k}"),
            *([Column("knee_support", "knee in resamples")] if "knee_support" in data.column_names else []),
            Column("knee"),
        ],
        [
            "A curve is one program with one gate at several budgets, from the run without takeovers. The knee is the point "
            "farthest above the chord of the curve; it needs five budgets (knee_note in the CSV says why there is none). In "
            "the paper most of the gain in pass@8 lies in the first 3 to 8 % of tokens †.",
            *context.published.notes(),
        ],
        rule_by="curve_id",
    )
    height, quantity = ("pass_at_k", f"Pass@{k}") if k > 1 else ("accuracy", "Accuracy")
    ends = _ends(context, comparison, height)
    kinds = {run.run_id: kind_of(run) for run in context.selection.records}
    points = [
        {**row, "kind": kinds[row["run_id"]]}
        for row in rows
        if row["rho"] and row["curve"].partition(",")[2].count("lambda") == 0
    ]
    if not points:
        raise UsageError("No run among these took over a token.", "Run one: rrti run guided.")
    knee = next((row["rho"] for row in rows if row["knee"] and row["program"] == "guided"), None)
    caption = (
        f"{quantity} against the realised budget, with 95 % intervals. {comparison.title}. Runs without the lambda "
        "condition. "
        + ("" if knee is not None else "No knee is marked: a curve needs five budgets and a point above its chord.")
    )

    def make() -> Figure:
        return budget_figure(points, height, quantity, comparison.n_problems, *ends, knee, exchanged=comparison.exchanged)

    return table, [draw(f"budget-{comparison.name}", caption.strip(), make)]


def _budgets(context: ReportContext) -> Content:
    """The curves of each direction, then both directions side by side."""
    content = _each_comparison(_budget)(context)
    tables, drawings = zip(*both, strict=True) if (both := [*both_directions(context)]) else ((), ())
    return Content([*content.tables, *tables], [*content.drawings, *drawings], content.missing)


def _ends(context: ReportContext, comparison: Comparison, height: str) -> tuple[float | None, float | None]:
    """Accuracy or pass@k of the base and of the reasoning run, where there are such."""
    named = [run for run in (comparison.base, comparison.reasoning) if run is not None]
    rows = context.points("accuracy", named).to_pylist() if named else []
    found: Mapping[str, float] = {row["run_id"]: row[height] for row in rows}
    return found.get(comparison.base or ""), found.get(comparison.reasoning or "")


def _ablation(context: ReportContext, comparison: Comparison) -> tuple[Table, Sequence[Drawing]]:
    if comparison.base is None:
        raise UsageError("An ablation starts from a base run, and there is none among these runs.", "Run it: rrti run base.")
    guided = leading_guided(context.selection, comparison)
    named = {"base": comparison.base, "reasoning": comparison.reasoning, "guided": guided}
    data = context.query("ablation", comparison.runs, comparison.labels, **named)
    over_guided = [] if guided is None else [Column("accuracy_over_guided", "over guided, points")]
    leading = "" if guided is None else f" Guided here is {comparison.labels[guided]}, the run of the largest budget."
    table = Table(
        f"ablation-{comparison.name}",
        f"Each way of spending the budget: {comparison.title}",
        data,
        [
            Column("run"),
            Column("rho", "ρ"),
            Column("accuracy"),
            Column("accuracy_over_base", "over base, points"),
            *over_guided,
            Column("recovery_accuracy", "recovered"),
        ],
        [f"Differences in points of accuracy on the same problems.{leading} The published controls stand under accuracy."],
    )
    return table, ()


def _with_published(data: pa.Table, published: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Measured rows, then published ones, told apart by the column `source`."""
    schema = data.schema.append(pa.field("source", pa.string()))
    rows = [{**row, "source": MEASURED} for row in data.to_pylist()]
    return pa.Table.from_pylist([*rows, *({**row, "source": PUBLISHED} for row in published)], schema)


SECTIONS = (
    Section("accuracy", "Accuracy and recovery", _each_comparison(_accuracy)),
    Section("flips", "Flips", _each_comparison(_flips)),
    Section("budget", "Budget", _budgets),
    Section("ablation", "Ablation", _each_comparison(_ablation)),
)
