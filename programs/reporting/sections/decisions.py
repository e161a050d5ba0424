"""How it went: thresholds, takeovers and a sample to look at, agreement of metrics, planted decisions, causality."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.errors import UsageError, command
from rrti_sgl.programs.reporting.context import Content, ReportContext, Section, wide
from rrti_sgl.programs.reporting.figures.strip import StripToken, strip_figure
from rrti_sgl.programs.reporting.figures.style import Drawing, draw
from rrti_sgl.programs.reporting.runs import with_arms
from rrti_sgl.programs.reporting.sections import cost
from rrti_sgl.programs.tables.numbers import NATS, SHARE
from rrti_sgl.programs.tables.statistics import part_tables
from rrti_sgl.programs.tables.table import Column, Table
from rrti_sgl.records import SampleTrace

STRIP_TOKENS = 240
PARTS = ("position", "run", "gap", "choice", "pair", "entropy")
STRETCHES = ("run", "gap")  # parts of the anatomy whose rows are classes of lengths: 1, 2, 3-4, 5-8, ...
RUNS_A_TABLE = 4
Rows = Sequence[Mapping[str, Any]]
# Columns that repeat what the label of the run says, or name rows for machines.
_IMPLIED = ("run_id", "program", "problem_set", "base_model", "reasoning_model", "base_run_id")
_REALLOCATED = (
    "first, five, listed: share of the tokens at which the guest's token is the first of the writing model's candidates, "
    "among its first five, in its list. host probability: what that model gives it. tv: mass that the guest moves. on "
    "first, on five: mass that host and guest give the host's first candidates."
)
# What tables of pooled counterfactuals leave to the files beside them: counts that repeat n units or n tokens.
_POOLED = (*_IMPLIED, "metric", "n_problems", "n_samples", "n_answers", "n_matched")
_ARMS = (
    "taken: share of right continuations with the guest's token, or with the sentence as it is; denied: with the writing "
    "model's token, or with the sentence drawn anew. effect: taken less denied, in points. necessary: share of units with "
    "taken above and denied at most one half; harmful: the reverse. answers: how far apart the answers of both are, right "
    "or wrong: half the squared distance of their distributions, without bias; kl: KL(denied || taken) of these, "
    "smoothed, in nats: compare equal numbers of continuations."
)
_JUMPS = (
    "pivotal: share of the tokens at which the share of right solutions changes by the search's gap or more; jump: by how "
    "much there, up or down, on average; raises: share of these at which it goes up. control: pivotal ones among other "
    "tokens of the same tenth of the same solution; lead: pivotal less control, in points."
)
_CHOICE = """
    SELECT taken.sample_id
    FROM samples AS taken JOIN runs USING (run_id)
    LEFT JOIN samples AS base ON base.run_id = $base AND base.problem_id = taken.problem_id AND base.sample_index = 0
    WHERE taken.run_id IN (SELECT unnest($runs)) AND taken.n_takeovers > 0
    ORDER BY
        COALESCE(taken.correct AND NOT base.correct, false) DESC, taken.n_changed = 0, runs.program <> 'guided',
        taken.n_changed, taken.n_tokens DESC, taken.sample_id
    LIMIT 1
"""


def _of_runs(
    name: str, title: str, programs: Sequence[str] = (), notes: Sequence[str] = ()
) -> Callable[[ReportContext], Content]:
    """A section with the table of a statistic over the runs of some programs; of none it is of the base rollouts."""

    def content(context: ReportContext) -> Content:
        runs = context.selection.of_programs(*programs) if programs else context.selection.rollouts
        if not runs:
            raise UsageError("None of the runs is of a program that this statistic is made of.")
        found = context.each(name, runs)
        tables = part_tables(name, title, found.data, hidden=_IMPLIED, notes=notes, rule_by="run")
        return Content(tables, missing=found.missing)

    return content


def _side_by_side(name: str, title: str, rows: Rows, keys: Sequence[str], value: Column, *notes: str) -> list[Table]:
    """Tables with a row for each value of `keys` and a column for each run, a few runs in each table."""
    runs = list(dict.fromkeys(row["run"] for row in rows))
    tables = []
    for start in range(0, len(runs), RUNS_A_TABLE):
        some = runs[start : start + RUNS_A_TABLE]
        of_these = _in_order([row for row in rows if row["run"] in some])
        columns = [replace(value, name=run, label=run) for run in some]
        several = len(runs) > RUNS_A_TABLE
        part = f"-{1 + start // RUNS_A_TABLE}" if several else ""
        which = f" (runs {start + 1} to {start + len(some)} of {len(runs)})" if several else ""
        data = wide(of_these, keys, lambda row: str(row["run"]), value.name)
        rule_by = keys[0] if len(keys) > 1 else None
        tables.append(Table(f"{name}{part}", f"{title}{which}", data, [*map(Column, keys), *columns], notes, rule_by))
    return tables


def _takeovers(context: ReportContext) -> Content:
    gates = {run.run_id: run.gate for run in context.selection.records}
    runs = [run for run in context.selection.whole if gates[run] not in (None, "never", "always")]
    if not runs:
        raise UsageError("No run among these has a gate that takes over single tokens.", "Run one: rrti run guided.")
    found = context.each("takeovers", runs)
    shares = _told_apart([row for row in found.rows if row["share"] is not None])
    entropies = [row for row in found.rows if row["mean"] is not None]
    title, note = "Anatomy of the takeovers: shares", "The paper publishes no numbers of this."
    about = (
        "position: where in the solution. run: takeovers in a row. gap: tokens between them. choice: whether the base model "
        "had drawn the same token. pair: base model's token -> emitted token, the most frequent of each run, a dash where "
        f"it is none of these. {note}"
    )
    tables = _side_by_side("takeovers", title, shares, ("part", "label"), Column("share", kind=SHARE), about)
    around = "Base entropy around takeovers"
    tables += _side_by_side("takeovers-entropy", around, entropies, ("label",), Column("mean", kind=NATS), note)
    return Content(tables, [_strip(context, runs)], found.missing)


def _told_apart(shares: Rows) -> list[dict[str, Any]]:
    """The rows of shares; where other pairs of tokens read the same (" a" and "a"), their ids are in the label."""
    written: dict[Any, set[tuple[Any, Any]]] = {}
    for row in shares:
        written.setdefault(row["label"], set()).add((row["base_token_id"], row["token_id"]))
    return [
        {**row, "label": f"{row['label']} (ids {row['base_token_id']} -> {row['token_id']})"}
        if row["part"] == "pair" and len(written[row["label"]]) > 1
        else dict(row)
        for row in shares
    ]


def _in_order(anatomy: Rows) -> list[dict[str, Any]]:
    """The rows by part, and stretches of a part from short to long; a class of stretches that only others have is 0."""
    rows = [dict(row) for row in anatomy]
    for part in STRETCHES:
        of_part = [row for row in rows if row["part"] == part]
        known = {(row["run"], row["label"]) for row in of_part}
        runs, labels = (dict.fromkeys(row[name] for row in of_part) for name in ("run", "label"))
        lacking = [(run, label) for label in labels for run in runs if (run, label) not in known]
        rows += [{"run": run, "part": part, "label": label, "share": 0.0} for run, label in lacking]

    def place(row: Mapping[str, Any]) -> tuple[int, int]:
        shortest = int(row["label"].partition("-")[0]) if row["part"] in STRETCHES else 0
        return PARTS.index(row["part"]), shortest

    return sorted(rows, key=place)


def _strip(context: ReportContext, runs: Sequence[str]) -> Drawing:
    """A sample to look at: first one that the base run has wrong and this one right, by few changed tokens."""
    base = next((comparison.base for comparison in context.selection.comparisons if comparison.base), None)
    chosen = [*runs, base] if base else list(runs)
    [row] = context.store.sql(_CHOICE, {"runs": list(runs), "base": base}, runs=chosen).to_pylist()
    trace = context.store.load_sample(row["sample_id"], runs=chosen)
    metric = "ce" if any(math.isfinite(value) for value in trace.tokens.ce) else "score"
    tokens = strip_tokens(trace, metric)
    sample = trace.sample
    verdict = {True: "right", False: "wrong", None: "not graded"}[sample.correct]
    cut = f", the first {STRIP_TOKENS} of" if sample.n_tokens > STRIP_TOKENS else ","
    caption = (
        f"One sample of {context.selection.labels[sample.run_id]} (id {sample.sample_id}{cut} {sample.n_tokens} tokens, "
        f"{sample.n_takeovers} takeovers, {sample.n_changed} of them changed the token; answer {verdict}). Each token is "
        f"shaded by {metric}; takeovers are framed, and above one that changed the token is what the base model had drawn."
    )
    drawing = draw("strip", caption, lambda: strip_figure(tokens, metric, STRIP_TOKENS), wide=True)
    return replace(drawing, sample=(sample.run_id, sample.sample_id))


def strip_tokens(trace: SampleTrace, metric: str) -> list[StripToken]:
    """The tokens of a sample as the strip shows them."""
    tokens, values = trace.tokens, getattr(trace.tokens, metric)
    found = []
    for t, text in enumerate(tokens.token_text):
        taken = tokens.source[t] == "reasoning"
        changed = taken and tokens.base_token_id[t] >= 0 and tokens.base_token_id[t] != tokens.token_id[t]
        score = float(values[t]) if math.isfinite(values[t]) else None
        found.append(StripToken(text, score, taken, (tokens.base_token_text[t] or "") if changed else None))
    return found


def _transfer(context: ReportContext) -> Content:
    """Thresholds of each base rollouts on the tokens of all others."""
    rollouts = context.selection.rollouts
    found = context.query("transfer", rollouts)
    found = found.filter(pc.not_equal(found["from_run_id"], found["run_id"]))
    if not found.num_rows:
        raise UsageError(
            "No two base rollouts have the same models and scores.",
            "Make some of other problems: rrti run diagnose.",
        )
    labels = context.selection.labels
    sources = [labels[source] for source in found["from_run_id"].to_pylist()]
    found = found.add_column(0, "threshold of", pa.array(sources, pa.string()))
    hidden = (*_IMPLIED, "from_run_id", "from_problem_set", "n_tokens")
    return Content(part_tables("transfer", "Thresholds on other problems", found, hidden=hidden, rule_by="run"))


def _continued(name: str, title: str, unit: str, note: str) -> Callable[[ReportContext], Content]:
    """A section of the runs whose samples continue others, pooled: each of them is of one sample."""

    def content(context: ReportContext) -> Content:
        found = context.selection.of_programs("counterfactual")
        runs = with_arms(context.store, found, searches=unit == "pivotal")
        if not runs:
            raise UsageError(
                "There is no such counterfactual run among the runs.", f"Make one: {command('counterfactual', unit=unit)}."
            )
        data = context.query(name, runs)
        return Content([*map(_said_once, part_tables(name, title, data, hidden=_POOLED, notes=[note], rule_by="run"))])

    return content


def _said_once(table: Table) -> Table:
    """The table without labels that put its predictors and deciles into one word, and without what deciles never have."""
    if not any(column.name == "decile" for column in table.columns):
        return table
    return replace(table, columns=[column for column in table.columns if column.name not in ("label", "n_open")])


SECTIONS = (
    Section(
        "calibration",
        "Thresholds",
        _of_runs("calibration", "Thresholds and budgets", ("diagnose", "guided", "entropy")),
    ),
    Section("transfer", "Thresholds on other problems", _transfer),
    Section("takeovers", "Takeovers", _takeovers),
    Section(
        "reallocation",
        "Rank of the guest's token, and the mass it moves",
        _of_runs("reallocation", "Rank and mass", ("diagnose", "guided"), [_REALLOCATED]),
    ),
    Section("metrics", "Agreement of metrics", _of_runs("metrics", "Agreement of metrics")),
    *cost.SECTIONS,
    Section("planted", "Planted decision points", _of_runs("planted", "Disagreement as a detector of planted decisions")),
    Section(
        "causality",
        "Causality",
        _continued("causality", "Takeovers and sentences that decided the outcome", "token", _ARMS),
    ),
    Section(
        "pivotal",
        "Pivotal tokens",
        _continued("pivotal", "Tokens at which right solutions jump", "pivotal", _JUMPS),
    ),
)
