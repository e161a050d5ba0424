"""The samples that a report shows as a page beside it, each with its partners in the other runs of the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.explorer.export import export
from rrti_sgl.programs.reporting.context import Report

FOLDER = "explorer"


def with_explorer(report: Report, store: Store, out: Path) -> Report:
    """The report with links to the page of its samples, which is written.

    Args:
        report: of runs of the store.
        store: where the samples are.
        out: folder of the report.

    Raises:
        UsageError: the report shows no sample, or the page cannot be written.
    """
    shown = [drawing.sample for drawing in report.drawings if drawing.sample is not None]
    if not shown:
        raise UsageError("The report shows no sample, so there is no page of its samples.", "Name a run with takeovers.")
    runs = set(report.runs.data["run_id"].to_pylist())
    with Explorer(store) as explorer:
        rows = []
        for run, sample in shown:
            partners = explorer.lists.partners(run, sample)
            rows += [explorer.lists.row(run, sample), *(row for row in partners if row["run"] in runs)]
        export(explorer, rows, out / FOLDER)
    return replace(report, explored=True)
