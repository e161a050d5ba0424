"""Both directions side by side: tokens of the reasoning model in the base model's text, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from rrti_sgl.programs.reporting.context import ReportContext
from rrti_sgl.programs.reporting.figures.directions import Direction, directions_figure
from rrti_sgl.programs.reporting.figures.style import Drawing, draw
from rrti_sgl.programs.reporting.runs import Comparison, followed_by, kind_of
from rrti_sgl.programs.tables.table import Column, Table
from rrti_sgl.records import RunRecord


def both_directions(context: ReportContext) -> Iterator[tuple[Table, Drawing]]:
    """A table and a figure for each group of runs in exchanged roles that has its counterpart among the runs."""
    comparisons = context.selection.comparisons
    for comparison in comparisons:
        if comparison.exchanged and comparison.mirror is not None:
            yield _side_by_side(context, comparisons[comparison.mirror], comparison)


def _side_by_side(context: ReportContext, here: Comparison, there: Comparison) -> tuple[Table, Drawing]:
    rows = [*_rows(context, here, "base"), *_rows(context, there, "reasoning")]
    table = Table(
        f"directions-{here.name}",
        f"Both directions: {here.title}",
        pa.Table.from_pylist(rows),
        [
            Column("writes"),
            Column("run"),
            Column("rho_pooled", "ρ"),
            Column("changed"),
            Column("accuracy"),
            Column("recovery_accuracy", "way to the guest"),
        ],
        [
            "writes: the model whose text it is; the other is its guest, which takes over. ρ: tokens of the guest per "
            "token. way to the guest: 0 is the accuracy of the model that writes, alone, and 1 that of its guest alone."
        ],
        rule_by="writes",
    )
    curves = [
        Direction(
            writes,
            next((row["accuracy"] for row in rows if row["writes"] == writes and row["run_id"] == comparison.base), None),
            [row for row in rows if row["writes"] == writes and row["program"] == "guided" and row["lambda_"] is None],
            [row for row in rows if row["writes"] == writes and row["control"]],
        )
        for writes, comparison in (("base", here), ("reasoning", there))
    ]
    caption = (
        f"Accuracy against the share of the guest's tokens in both directions, with 95 % intervals. {here.title}. "
        "Guided runs without the lambda condition; a curve begins with its writer alone. Hollow: controls that took over as "
        "often as a guided run, or as often as they were told to."
    )
    make = lambda: directions_figure(curves, here.n_problems)  # noqa: E731
    return table, draw(f"directions-{here.name}", caption, make)


def _rows(context: ReportContext, comparison: Comparison, writes: str) -> Iterator[Mapping[str, Any]]:
    """The runs of one direction from its writer alone to the guest alone; seeds one by one."""
    data = context.query(
        "accuracy", comparison.runs, comparison.labels, base=comparison.base, reasoning=comparison.reasoning
    )
    lambdas = {run.run_id: run.lambda_ for run in context.selection.records}
    controls = {run.run_id: _control(run) for run in context.selection.records}
    found = {row["run_id"]: row for row in data.to_pylist() if row["part"] == "run"}
    # Of a model alone in the other direction: as the writer it gives none of its tokens away, as the guest all of them.
    for run, rho in ((comparison.base, 0.0), (comparison.reasoning, 1.0)):
        if run in found:
            found[run] |= {"rho_pooled": rho, "changed": found[run]["changed"] if run in comparison.runs else None}
    for row in sorted(found.values(), key=lambda row: row["rho_pooled"]):
        run = row["run_id"]
        yield {"writes": writes, **row, "lambda_": lambdas[run], "control": controls[run]}


def _control(run: RunRecord) -> str | None:
    """What kind of control a run is; None: it is none."""
    return kind_of(run) if run.program in ("random", "early", "matched") or followed_by(run) else None
