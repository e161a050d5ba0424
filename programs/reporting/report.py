"""The report: every statistic of the paper as tables and figures, as a Markdown page and an HTML page.

In the folder: `report.md`, `report.html` (self-contained), `tables/NAME.{tex,csv,parquet}`, `tables/all-tables.tex`,
`figures/NAME.{svg,png,pdf}`. What a statistic could not be made of is said in its section, with the reason.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from rrti_sgl import __version__
from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.queries import QUERIES
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting import pages
from rrti_sgl.programs.reporting.conditions import conditions
from rrti_sgl.programs.reporting.context import Content, Finished, Report, ReportContext, Section
from rrti_sgl.programs.reporting.entropy import what_ce_is
from rrti_sgl.programs.reporting.findings import findings
from rrti_sgl.programs.reporting.published import Published, load_published
from rrti_sgl.programs.reporting.runs import RunSelection, select_runs
from rrti_sgl.programs.reporting.sections import SECTIONS
from rrti_sgl.programs.reporting.writing import make_folder, write_atomically
from rrti_sgl.programs.tables import formats, latex
from rrti_sgl.programs.tables.table import BRACKETS, NO_INTERVAL, NOT_DEFINED, Column, Table, plain_table


def make_report(
    store: Store, references: Sequence[str] = (), progress: Callable[[str, int, int], None] | None = None
) -> Report:
    """The report of some runs.

    Args:
        store: where they are.
        references: run ids, prefixes of them or program names; none takes every run.
        progress: told before each section its title, its number from 1, and how many there are.

    Raises:
        UsageError: a reference matches no run, or no run has samples.
    """
    selection = select_runs(store, references)
    published = load_published()
    context = ReportContext(TokenReader(store), selection, published)
    runs = _runs_table(store, selection)
    sections, finished = _all_sections(), []
    for place, section in enumerate(sections, 1):
        if progress is not None:
            progress(section.title, place, len(sections))
        finished.append(_finish(section, context))
        give_back_memory()
    title = "Where a base model and a reasoning model part, and what a few tokens restore"
    made_with = [*conditions(selection.records), f"This report, of {len(selection.ids)} runs, is by rrti-sgl {__version__}."]
    made = Report(title, findings(selection, finished), " ".join(made_with), what_ce_is(context), {}, runs, finished)
    notes = {note for table in made.tables for note in table.all_notes}
    return replace(made, legend={note: text for note, text in _legend(published).items() if note in notes})


def give_back_memory() -> None:
    """Give back what the allocators of Arrow and of the C library hold for later; nothing where there is no such call.

    Arrays of many sizes leave gaps that later ones do not fill: over ten million tokens those come to a tenth of the peak.
    """
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
        if trim is not None:
            trim(0)


def write_report(report: Report, out: Path) -> list[Path]:
    """Write every file, each whole or not at all; returns their paths, the two pages first.

    Raises:
        UsageError: the folder or a file in it cannot be written.
    """
    files: dict[str, bytes | str] = {
        "report.md": pages.markdown_page(report),
        "report.html": pages.html_page(report),
        "tables/all-tables.tex": pages.latex_page(report),
    }
    for table in report.tables:
        files[f"tables/{table.name}.tex"] = latex.tabular(table)
        files[f"tables/{table.name}.csv"] = formats.to_csv(table.data)
        files[f"tables/{table.name}.parquet"] = formats.to_parquet(table.data)
    for drawing in report.drawings:
        files |= {f"figures/{drawing.name}.{kind}": content for kind, content in drawing.files.items()}
    for folder in ("tables", "figures"):
        make_folder(out / folder)
    for name, content in files.items():
        write_atomically(out / name, content)
    return [out / name for name in files]


def _legend(published: Published) -> dict[str, str]:
    """What holds of every table that says it, by the note of a table that stands alone."""
    setting = f"{published.source['setting']}, on {published.source['benchmarks']}"
    return {
        BRACKETS: "Intervals, in brackets, are of 95 %, by bootstrap over problems.",
        NO_INTERVAL: NO_INTERVAL,
        NOT_DEFINED: NOT_DEFINED,
        published.note: (
            f"Columns and rows marked † are numbers that the paper published ({published.citation}). They were not measured "
            f"here, and in another setting: {setting}. They stand beside ours for orientation, not as a reproduction of the "
            "same experiment."
        ),
    }


def _all_sections() -> list[Section]:
    """The sections in order, and one with the bare table for every statistic that has none of its own."""
    known = {section.name for section in SECTIONS}
    return [*SECTIONS, *(_bare_section(name) for name in QUERIES if name not in known)]


def _bare_section(name: str) -> Section:
    def build(context: ReportContext) -> Content:
        found = context.each(name, context.selection.ids)
        table = plain_table(name, found.data.drop_columns("run_id") if "run_id" in found.data.column_names else found.data)
        return Content([table], missing=found.missing)

    return Section(name, name.capitalize(), build)


def _finish(section: Section, context: ReportContext) -> Finished:
    """The section's content, or why there is none: then that is all it says."""
    try:
        content = section.build(context)
    except UsageError as error:
        content = Content(missing=[str(error)])
    return Finished(section, QUERIES[section.name].question, content)


def _beside(others: Sequence[Mapping[str, Any]]) -> str:
    """What is said of runs that are not listed."""
    samples, tokens = (sum(row[name] or 0 for row in others) for name in ("n_samples", "n_tokens"))
    return f"Beside them: {len(others):,} counterfactual runs of {samples:,} continuations, {tokens:,} tokens in all."


def _runs_table(store: Store, selection: RunSelection) -> Table:
    """The runs of whole solutions, where there are any: of one sample there may be hundreds that continue it."""
    shown = selection.whole or selection.ids
    rows = {
        row["run_id"]: row
        for row in store.sql(
            """
            SELECT run_id, program, base_model, reasoning_model, problem_set, n_problems,
                   CASE WHEN program <> 'counterfactual' THEN samples_per_problem END AS samples_per_problem, n_samples,
                   n_tokens, k, score_kind, temperature, tau, lambda_, rho
            FROM run_view
            """,
            runs=selection.ids,
        ).to_pylist()
    }
    data = pa.Table.from_pylist([{"run": selection.labels[run], **rows[run]} for run in shown])
    others = [rows[run] for run in selection.ids if run not in shown]
    shared, varying = [], []
    for name, label in (("base_model", "base model"), ("reasoning_model", "reasoning model"), ("problem_set", "problems")):
        values = set(data[name].to_pylist())
        if len(values) == 1:
            shared.append(f"{label} {values.pop() or 'none'}")
        else:
            varying.append(Column(name, label))
    return Table(
        "runs",
        "The runs",
        data,
        [
            Column("run"),
            Column("run_id", "id"),
            *varying,
            Column("n_problems", "n"),
            Column("samples_per_problem", "samples each"),
            Column("temperature"),
            Column("n_tokens", "tokens"),
            Column("score_kind", "scores"),
            Column("tau", "τ"),
            Column("rho", "ρ"),
        ],
        [
            *([f"Of all runs: {', '.join(shared)}."] if shared else []),
            *([_beside(others)] if others else []),
            "τ: threshold of the score, in its unit. ρ: takeovers per token. scores: full is exact; topk is a lower bound, "
            "plugin the same with exact entropies.",
        ],
    )
