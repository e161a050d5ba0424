"""What runs cost: requests, prompt tokens and time, each per generated token."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import Content, ReportContext, Section, wide, with_column
from rrti_sgl.programs.tables.numbers import NUMBER, Kind
from rrti_sgl.programs.tables.table import BOUNDS, Column, Table

_ELAPSED_SQL = Path(__file__).resolve().parents[1] / "queries" / "elapsed.sql"
_TIMES = (
    Column("run ms", "run", NUMBER),
    Column("samples at once", "at once", Kind(1)),
    Column("wall ms", "wall", NUMBER),
    Column("base ms", "base", NUMBER),
    Column("reasoning ms", "reasoning", NUMBER),
    Column("other ms", "other", NUMBER),
)
_COUNTED = (
    Column("base calls", kind=NUMBER),
    Column("reasoning calls", kind=NUMBER),
    Column("drafted tokens", "drafted", NUMBER),
    Column("discarded tokens", "discarded", NUMBER),
    Column("scored positions", "scored", NUMBER),
)
_SENT = tuple(
    Column(f"{model} {part} tokens", f"{model} {part}", NUMBER)
    for model in ("base", "reasoning")
    for part in ("prompt", "cached", "recomputed")
)
_REQUESTS = (
    "base calls: requests to the base server, of one or more tokens. drafted: tokens that the base model wrote ahead. "
    "discarded: drafted ones after a takeover, thrown away. scored: positions that the reasoning model scored."
)
_PROMPTS = (
    "prompt: tokens that requests sent, those before included each time. cached: of these, what the server's cache had. "
    "recomputed: what it could have had and did not."
)
_TIME = (
    "run: time in which at least one sample of the run was being made, over its tokens: what a token took, the number to "
    "compare. at once: mean number of samples in the making. wall: from a sample's start to its end. base, reasoning: its "
    "requests to each server, each as an equal share of the call that it went out in. A call for pieces of solutions holds "
    "those of many samples; a request for a whole solution (programs base, reasoning, diagnose) is a call of its own, and "
    "does not compare with such shares. other: the rest of wall. It is waiting, while calls answer the other samples of the "
    "batch: with n samples at once each one's wall is n times run. The package's own work (gates, metrics, writing) is in "
    "it, too, and in run."
)


def _cost(context: ReportContext) -> Content:
    ids = context.selection.whole
    if not ids:
        raise UsageError("All of these runs continue samples of others.", "Make one of its own: rrti run guided.")
    found = context.each("cost", ids)
    data = wide(found.rows, ["run", "run_id"], lambda row: str(row["quantity"]), "per_token")
    elapsed = {
        row["run_id"]: row
        for row in context.store.sql(_ELAPSED_SQL.read_text(encoding="utf-8"), {"runs": ids}, runs=ids).to_pylist()
    }
    for name, column in (("run ms", "per_token"), ("samples at once", "at_once")):
        data = with_column(data, name, [elapsed[run][column] for run in data["run_id"].to_pylist()])
    totals = {row["run_id"]: int(row["total"]) for row in found.rows if row["quantity"] == "generated tokens"}
    data = with_column(data, "tokens", [totals[run] for run in data["run_id"].to_pylist()], pa.int64())

    def table(name: str, title: str, note: str, *columns: Column) -> Table:
        names = [c.name + end for c in columns for end in ("", *BOUNDS)]
        of = data.select(["run", "run_id", *(name for name in names if name in data.column_names)])
        return Table(f"cost-{name}", f"{title} per generated token", of, [Column("run"), *columns], [note])

    return Content(
        [
            table("time", "Time in milliseconds", _TIME, Column("tokens"), *_TIMES),
            table("requests", "Requests and tokens", _REQUESTS, *_COUNTED),
            table("prompts", "Prompt tokens", _PROMPTS, *_SENT),
        ],
        missing=found.missing,
    )


SECTIONS = (Section("cost", "Cost", _cost),)
