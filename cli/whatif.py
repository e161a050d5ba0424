"""`rrti whatif`: another gate on stored tokens, without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_GATE, _OUTPUT = "Gate", "Output"


def whatif(
    run: Annotated[str | None, typer.Argument(help="Run id, prefix of one, or program; default: newest diagnose.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    metric: Annotated[
        str | None, typer.Option(help="What the gate sees; entropy_base is the entropy gate.", rich_help_panel=_GATE)
    ] = None,
    tau: Annotated[float | None, typer.Option(help="Threshold.", rich_help_panel=_GATE)] = None,
    spike_ratio: Annotated[
        list[float] | None, typer.Option(help="Calibrate for this ratio; repeat. Default: a sweep.", rich_help_panel=_GATE)
    ] = None,
    budget: Annotated[
        list[float] | None, typer.Option(help="Find the ratio with this expected budget; repeat.", rich_help_panel=_GATE)
    ] = None,
    calibration: Annotated[str | None, typer.Option(help="A stored calibration, by id.", rich_help_panel=_GATE)] = None,
    stored: Annotated[bool, typer.Option("--stored", help="Replay the gate of the run.", rich_help_panel=_GATE)] = False,
    calibrate_on: Annotated[
        str | None, typer.Option(metavar="RUN", help="Take ratios of this run's scores.", rich_help_panel=_GATE)
    ] = None,
    use_lambda: Annotated[
        bool, typer.Option("--lambda/--no-lambda", help="Second condition on or off.", rich_help_panel=_GATE)
    ] = False,
    lambda_value: Annotated[
        float | None, typer.Option(help="Its factor, in place of a calibration's.", rich_help_panel=_GATE)
    ] = None,
    window: Annotated[int, typer.Option(help="Length of the local mean, tokens.", rich_help_panel=_GATE)] = 16,
    warmup: Annotated[
        str, typer.Option(help="Rule for position < window: tau, partial or never.", rich_help_panel=_GATE)
    ] = "tau",
    disagreement: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Coverage is a share of this. [default: ce]", rich_help_panel=_OUTPUT),
    ] = None,
    positions: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="List where it fires: .csv, .json, .parquet; - prints.", rich_help_panel=_OUTPUT),
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="Draw budget against coverage: .svg, .png or .pdf.", rich_help_panel=_OUTPUT)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.", rich_help_panel=_OUTPUT)] = False,
) -> None:
    """Tell where another gate would fire on stored tokens, and at which budget. No model is asked.

    It does not know what would follow a changed token: the stored tokens stay as they are.
    """
    from typing import cast

    from rrti_sgl.cli import regating_output as output
    from rrti_sgl.cli import tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.stored.whatif import WhatIfOptions, what_if
    from rrti_sgl.science.threshold import Warmup

    options = WhatIfOptions(
        metric=metric,
        tau=tau,
        spike_ratios=tuple(spike_ratio or ()),
        budgets=tuple(budget or ()),
        calibration_id=calibration,
        stored=stored,
        calibrate_on=calibrate_on,
        use_lambda=use_lambda or lambda_value is not None,
        lambda_=lambda_value,
        window=window,
        warmup=cast(Warmup, warmup),
        disagreement=disagreement,
    )
    output.check_files(positions, figure)
    with Store.open_readonly(db) as store:
        found = what_if(store, run, options)
        listed = output.positions_table(store, found) if positions is not None else None
    if figure is not None:
        output.write_figure(found, figure)
    if listed is not None and positions != "-":
        output.write_positions(listed, Path(str(positions)))
    if listed is not None and positions == "-":
        output.print_positions(listed, as_json=json)
    elif json:
        tables.print_json(found.rows)
    else:
        output.print_gates(found)
    output.print_notes(found, beside_data=json or positions == "-")
