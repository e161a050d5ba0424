"""`rrti counterfactual SAMPLE`: which takeovers or sentences of a stored sample decided its outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.options import Trust, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rrti_sgl.cli.progress import RunProgress
    from rrti_sgl.programs.running.arms import Arms
    from rrti_sgl.programs.running.counterfactual import Effect
    from rrti_sgl.programs.running.session import PairSession
    from rrti_sgl.records import RunRecord, SampleRecord


@with_options([])
def counterfactual(
    sample: Annotated[
        list[str] | None, typer.Argument(metavar="[SAMPLE]...", help="Id of a stored sample, or enough of its beginning.")
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="In place of ids: samples of this run.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=bounds.COUNT, help="So many of its samples at most.")] = None,
    unit: Annotated[
        str | None,
        typer.Option(metavar="token|sentence|pivotal", help="What is tried, or pivotal: searched for. [default: token]"),
    ] = None,
    position: Annotated[
        list[int] | None,
        typer.Option(help="Token to try, or of a sentence; repeat. Default: changed takeovers, all sentences."),
    ] = None,
    continuations: Annotated[
        int | None, typer.Option(min=1, max=bounds.RUNS, help="Of each arm. [default: 1 when greedy, 8 when sampling]")
    ] = None,
    until: Annotated[
        float | None,
        typer.Option(help="Go on with a unit until its effect is known within so much; at most 64."),
    ] = None,
    gap: Annotated[
        float | None, typer.Option(help="A token is pivotal that changes the share of right ones so. [default: 0.2]")
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, max=bounds.COUNT, help="Most continuations in all.")] = None,
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
    """Begin stored samples again with and without their takeovers or sentences, and tell which of them a solution needed.

    At a token both models' choices are tried, a sentence is kept or drawn anew, and the solution goes on from each as in the
    sample's run. Pivotal tokens, at which the share of right solutions jumps, are searched by halving. Each sample makes a
    run of its own. Name the servers, or the models, of the samples' run.
    """
    from rrti_sgl.cli import execution, summaries, tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.public.counterfactual import effects_table
    from rrti_sgl.programs.running.arms import parent_settings, plan_arms, samples_of
    from rrti_sgl.programs.running.counterfactual import run_counterfactual

    pair.check_servers("rrti counterfactual")
    with Store.open(db, create=False) as store:
        asked: dict[str, Any] = {
            "unit": unit,
            "positions": position or None,
            "continuations": continuations,
            "temperature": temperature,
        }
        asked |= {"until": until, "gap": gap, "budget": budget, "trust": trust or ()}
        samples: Sequence[str | None] = sample or [None]  # what goes on says which
        if resume is None or run is not None:
            samples = samples_of(store, sample or (), run, limit, unit)
        plans = [plan_arms(store, each, resume=resume, **asked) for each in samples]
        for arms in plans:
            say(_cost(arms, store.load_sample(arms.sample).sample), err=True)

        async def work(session: PairSession, progress: RunProgress) -> list[tuple[RunRecord, list[Effect]]]:
            given: dict[str, Any] = {"resume": resume, "trust": trust or ()}
            return [
                await run_counterfactual(session, store, arms, on_progress=progress.track(arms.sample), **given)
                for arms in plans
            ]

        done = execution.work_with(pair, parent_settings(store, plans[0].sample, trust or ()), work)
    found = [(arms, effects_table(effects, arms.unit)) for arms, (_, effects) in zip(plans, done, strict=True)]
    if json:
        tables.print_json([{"sample": arms.sample, **row} for arms, table in found for row in table.data.to_pylist()])
        return
    tables.print_tables([replace(table, title=f"{table.title} {arms.sample}") for arms, table in found if table.columns])
    for arms, (record, effects) in zip(plans, done, strict=True):
        say(f"{_found(arms, effects)} Stored as run {record.run_id}.")
    summaries.print_next(db, record)


def _found(arms: Arms, effects: Sequence[Effect]) -> str:
    if arms.gap is not None:
        named = ", ".join(str(each.position) for each in effects if each.unit.first == each.position) or "none"
        return f"Pivotal tokens (a change of {arms.gap:g} or more): {named}."
    named = ", ".join(str(each.position) for each in effects if each.necessary) or "none"
    what = "takeovers" if arms.unit == "token" else "sentences, by their last token"
    return f"Necessary {what} (right with, wrong without): {named}."


def _cost(arms: Arms, sample: SampleRecord) -> str:
    """What is ahead, before the first token of it."""
    most, begun = "" if arms.first() == arms.most() else "at most ", len(arms.branches)
    units = f"{len(arms.spans)} {arms.unit}{'s' * (len(arms.spans) > 1)}"
    if arms.gap is not None:
        units = f"A search from {arms.first()} continuations on"
    tokens = f"some {arms.tokens(sample):,} tokens"  # if they end where the stored solution does
    return f"{units}, {most}{arms.continuations} continuations of {begun} beginnings: {arms.most():,}, {tokens}."
