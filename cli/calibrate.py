"""`rrti calibrate`: thresholds for the gates, from base rollouts scored by both models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rrti_sgl.cli.options import RUN_OPTIONS, with_options
from rrti_sgl.cli.pairing import PairOptions

# No gate is asked, and nothing is drafted; the metric is that of the thresholds.
_LEFT_OUT = {"split", "decoding", "draft_tokens", "paced_drafts"} | {
    name for name, entry in RUN_OPTIONS.items() if entry.option.panel == "Gate" and name != "metric"
}


@with_options([name for name in RUN_OPTIONS if name not in _LEFT_OUT], problems="world:calibration", limit=200)
def calibrate(
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    spike_ratio: Annotated[
        list[float] | None, typer.Option(help="Share of base tokens above tau; repeat for several. [default: 0.08]")
    ] = None,
    from_run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Calibrate on this stored diagnose run; no server is needed.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Part of the set: calibration, evaluation or all. [default: calibration of a benchmark, all of a file]",
            rich_help_panel="Problems",
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
    *,
    pair: PairOptions,
    options: dict[str, Any],
) -> None:
    """Score base rollouts on a small problem set (program `diagnose`), and take tau and lambda from them."""
    from rrti_sgl.cli import execution, summaries
    from rrti_sgl.programs.running.runner import run_program
    from rrti_sgl.programs.running.settings import calibration_settings
    from rrti_sgl.programs.stored.calibrate import calibrate_on_run

    metric = options.pop("metric", "ce")
    settings = calibration_settings(**options, **({} if split is None else {"split": split}))
    with execution.open_store(db, settings, None, load=from_run is None) as (store, settings, problem_set):
        if from_run is None:
            record = execution.work_with(
                pair,
                settings,
                lambda session, progress: run_program(
                    session, store, settings, problem_set=problem_set, on_progress=progress.track(settings.program)
                ),
            )
            from_run = record.run_id
        found = [calibrate_on_run(store, from_run, metric=metric, spike_ratio=ratio) for ratio in spike_ratio or [0.08]]
        summaries.print_calibrations(found, as_json=json)
