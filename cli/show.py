"""`rrti show SAMPLE`: one sample in the terminal, its disagreement and its takeovers in colour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import console


def show(
    sample: Annotated[str, typer.Argument(help="Sample id, or enough of its first digits.")],
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    metric: Annotated[
        str | None, typer.Option(help="What the colour shows; ce, or an entropy where only one model was asked.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also list every token with its numbers.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the tokens as a list of row objects.")] = False,
) -> None:
    """Print a sample: disagreement as background, takeovers underlined with what the base model wanted."""
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.tables.sample_view import SampleView, rows

    with Store.open_readonly(db) as store:
        trace = store.load_sample(sample)
        run = store.get_run(trace.sample.run_id)
        problem = store.get_problem(run.problem_set, trace.sample.problem_id)
    if json:
        tables.print_json(rows(trace))
        return
    console().print(SampleView(run, problem, trace, metric))
    if tokens:
        tables.print_rows(rows(trace))
