"""`rrti whatif`: another gate on stored tokens, without a model."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from rrti_sgl.cli.options import with_options
from rrti_sgl.programs.options import declared
from rrti_sgl.programs.stored.whatif import WhatIfOptions

_in_output = partial(typer.Option, rich_help_panel="Output")
_OPTIONS = declared(WhatIfOptions)


@with_options(_OPTIONS.keys() - {"seed"}, _OPTIONS)
def whatif(
    run: Annotated[str | None, typer.Argument(help="Run id, prefix of one, or program; default: newest diagnose.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    positions: Annotated[
        str | None, _in_output(metavar="FILE", help="List where it fires: .csv, .json, .parquet; - prints.")
    ] = None,
    figure: Annotated[Path | None, _in_output(help="Draw budget against coverage: .svg, .png or .pdf.")] = None,
    json: Annotated[bool, _in_output("--json", help="Print a list of row objects.")] = False,
    *,
    options: dict[str, Any],
) -> None:
    """Tell where another gate would fire on stored tokens, and at which budget. No model is asked.

    It does not know what would follow a changed token: the stored tokens stay as they are.
    """
    from rrti_sgl.cli import regating_output as output
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.stored.whatif import what_if

    gates = WhatIfOptions.of(options)
    output.check_files(positions, figure)
    with Store.open_readonly(db) as store:
        found = what_if(store, run, gates)
        listed = output.positions_table(store, found) if positions is not None else None
    if figure is not None:
        output.write_figure(found, figure)
    if positions is not None and listed is not None:
        output.give_positions(listed, positions, as_json=json)
    if json and positions != "-":
        tables.print_json(found.rows)
    elif positions != "-":
        tables.print_tables([found.table])
    output.print_notes(found, beside_data=json or positions == "-")
