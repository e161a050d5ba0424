"""`rrti report`: every statistic of the paper as tables and figures, from the trace store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import say


def report(
    runs: Annotated[
        list[str] | None, typer.Argument(help="Run ids, prefixes of them or program names; none takes every run.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report; made if it is not there.")] = Path("report"),
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    explorer: Annotated[
        bool, typer.Option("--explorer", help="Beside it a page of the samples it shows, token by token: rrti view.")
    ] = False,
    memory: Annotated[str, typer.Option(help="Memory that the queries may use.")] = "512MB",
    json: Annotated[bool, typer.Option("--json", help="Print the files and what could not be shown, as JSON.")] = False,
) -> None:
    """Write the report: Markdown, HTML that needs no network, LaTeX tables, CSV, Parquet, figures as SVG, PNG and PDF.

    A statistic that cannot be made of the runs is named in the report, with the reason.
    """
    from rrti_sgl.cli import tables
    from rrti_sgl.cli.progress import StageProgress
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.reporting.report import make_report, write_report
    from rrti_sgl.programs.reporting.writing import make_folder

    with Store.open_readonly(db, memory_limit=memory) as store, StageProgress() as progress:
        make_folder(out)  # before the work, which takes long
        made = make_report(store, runs or (), progress)
        if explorer:
            from rrti_sgl.programs.reporting.exploring import with_explorer

            made = with_explorer(made, store, out)
        progress("writing the files")
        files = write_report(made, out)
    missing = [{"statistic": part.section.name, "reason": why} for part in made.sections for why in part.content.missing]
    if json:
        tables.print_json([{"files": [str(path) for path in files], "missing": missing}])
        return
    say(f"{len(files)} files in {out}: read {files[1]} or {files[0]}.")
    for entry in missing:
        say(f"not shown, {entry['statistic']}: {entry['reason']}", err=True)
