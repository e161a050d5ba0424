"""`rrti counterfactual SAMPLE`: which takeovers or sentences of a stored sample decided its outcome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.options import Trust, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from rrti_sgl.programs.running.arms import Arms
    from rrti_sgl.records import SampleRecord


@with_options([])
def counterfactual(
    sample: Annotated[
        str | None, typer.Argument(metavar="[SAMPLE]", help="Id of the stored sample, or enough of its beginning.")
    ] = None,
    unit: Annotated[
        str | None, typer.Option(metavar="token|sentence", help="What is denied or drawn anew. [default: token]")
    ] = None,
    position: Annotated[
        list[int] | None,
        typer.Option(help="Token to deny or force, or of a sentence; repeat. Default: changed takeovers, all sentences."),
    ] = None,
    continuations: Annotated[
        int | None, typer.Option(min=1, max=bounds.RUNS, help="Of each arm. [default: 1 when greedy, 8 when sampling]")
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(help="Go on with a unit until its effect is known within so much; at most 64."),
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
    """Begin a stored sample again with and without its takeovers or sentences, and tell which of them its solution needed.

    At a token both models' choices are tried, a sentence is kept or drawn anew, and the solution goes on from each as in the
    sample's run. Name the servers, or the models, of that run.
    """
    from rrti_sgl.cli import execution, summaries, tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.public.counterfactual import effects_table
    from rrti_sgl.programs.running.arms import parent_settings, plan_arms
    from rrti_sgl.programs.running.counterfactual import continue_arms

    pair.check_servers("rrti counterfactual")
    with Store.open(db, create=False) as store:
        arms = plan_arms(
            store,
            sample,
            resume=resume,
            unit=unit,
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
    what = "takeovers" if arms.unit == "token" else "sentences, by their last token"
    say(f"Necessary {what} (right with, wrong without): {named}. Stored as run {record.run_id}.")
    summaries.print_next(db, record)


def _cost(arms: Arms, sample: SampleRecord) -> str:
    """What is ahead, before the first token of it."""
    most = "" if arms.until is None else "at most "
    units, begun = f"{len(arms.spans)} {arms.unit}{'s' * (len(arms.spans) > 1)}", len(arms.branches)
    tokens = f"some {arms.tokens(sample):,} tokens"  # if they end where the stored solution does
    return f"{units}, {most}{arms.continuations} continuations of {begun} beginnings: {arms.most():,}, {tokens}."
