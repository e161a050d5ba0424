"""`rrti counterfactual SAMPLE`: which takeovers of a stored sample were necessary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.options import Trust, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.terminal import say


@with_options([])
def counterfactual(
    sample: Annotated[str, typer.Argument(metavar="SAMPLE", help="Id of the stored sample, or enough of its beginning.")],
    position: Annotated[
        list[int] | None, typer.Option(help="Token to deny or force; repeat. Default: changed takeovers.")
    ] = None,
    continuations: Annotated[
        int | None, typer.Option(min=1, max=bounds.RUNS, help="Of each arm. [default: 1 when greedy, 8 when sampling]")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=10, help="Of the continuations. [default: that of the sample's run]")
    ] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    trust: Trust = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
    *,
    pair: PairOptions,
) -> None:
    """Deny or force takeovers of a stored sample, and tell which of them its solution needed.

    At every position both models' tokens are tried, and the solution goes on from each as in the sample's run. Name the
    servers, or the models, of that run.
    """
    from dataclasses import asdict

    from rrti_sgl.cli import execution, summaries, tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.running.counterfactual import parent_settings, run_counterfactual

    pair.check_servers("rrti counterfactual")
    with Store.open(db, create=False) as store:
        settings = parent_settings(store, sample, trust or ())  # whether there is such a sample is told before all else
        record, effects = execution.work_with(
            pair,
            settings,
            lambda session, progress: run_counterfactual(
                session,
                store,
                sample,
                positions=position,
                continuations=continuations,
                temperature=temperature,
                trust=trust or (),
                on_progress=progress.track("counterfactual"),
            ),
        )
    rows = [asdict(effect) | {"effect": effect.effect, "necessary": effect.necessary} for effect in effects]
    if json:
        tables.print_json(rows)
        return
    tables.print_rows(rows)
    necessary = [effect.position for effect in effects if effect.necessary]
    named = ", ".join(map(str, necessary)) or "none"
    say(f"Necessary takeovers (right with, wrong without): {named}. Stored as run {record.run_id}.")
    summaries.print_next(db, record)
