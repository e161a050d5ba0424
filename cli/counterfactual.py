"""`rrti counterfactual SAMPLE`: which takeovers of a stored sample were necessary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.options import Trust, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from rrti_sgl.programs.running.counterfactual import Arms
    from rrti_sgl.records import SampleRecord


@with_options([])
def counterfactual(
    sample: Annotated[
        str | None, typer.Argument(metavar="[SAMPLE]", help="Id of the stored sample, or enough of its beginning.")
    ] = None,
    position: Annotated[
        list[int] | None, typer.Option(help="Token to deny or force; repeat. Default: changed takeovers.")
    ] = None,
    continuations: Annotated[
        int | None, typer.Option(min=1, max=bounds.RUNS, help="Of each arm. [default: 1 when greedy, 8 when sampling]")
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(help="Go on at a position until its effect is known within so much; at most 64."),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=10, help="Of the continuations. [default: that of the sample's run]")
    ] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this counterfactual run.")] = None,
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
    from rrti_sgl.cli import execution, summaries, tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.public.counterfactual import effects_table
    from rrti_sgl.programs.running.counterfactual import continue_arms, parent_settings, plan_arms

    pair.check_servers("rrti counterfactual")
    with Store.open(db, create=False) as store:
        arms = plan_arms(
            store,
            sample,
            resume=resume,
            positions=position or None,
            continuations=continuations,
            temperature=temperature,
            until=until,
            trust=trust or (),
        )
        stored = store.load_sample(arms.sample).sample
        settings = parent_settings(store, arms.sample, trust or ())
        say(_cost(arms, stored), err=True)
        record, effects = execution.work_with(
            pair,
            settings,
            lambda session, progress: continue_arms(
                session,
                store,
                arms,
                resume=resume,
                trust=trust or (),
                on_progress=progress.track("counterfactual"),
            ),
        )
    table = effects_table(effects)
    if json:
        tables.print_json(table.data.to_pylist())
        return
    tables.print_tables([table])
    necessary = [effect.position for effect in effects if effect.necessary]
    named = ", ".join(map(str, necessary)) or "none"
    say(f"Necessary takeovers (right with, wrong without): {named}. Stored as run {record.run_id}.")
    summaries.print_next(db, record)


def _cost(arms: Arms, sample: SampleRecord) -> str:
    """What is ahead, before the first token of it."""
    most = "" if arms.until is None else "at most "
    positions = f"{len(arms.positions)} position{'s' * (len(arms.positions) > 1)}"
    tokens = f"some {arms.tokens(sample):,} tokens"  # if they end where the stored solution does
    return f"{positions}, {most}{arms.continuations} continuations of both arms: {arms.most():,}, {tokens}."
