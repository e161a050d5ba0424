"""`rrti run PROGRAM`: run a program of the method over a problem set, into the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.options import Resume, Trust, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.terminal import say
from rrti_sgl.programs.registry import PROGRAMS

if TYPE_CHECKING:
    from rrti_sgl.cli.progress import RunProgress
    from rrti_sgl.programs.running.runner import Workers
    from rrti_sgl.programs.running.session import PairSession
    from rrti_sgl.records import RunRecord

_PROGRAMS = ", ".join(PROGRAMS)


@with_options()
def run(
    context: typer.Context,
    program: Annotated[str | None, typer.Argument(help=f"One of {_PROGRAMS}.", show_default=False)] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    resume: Resume = None,
    trust: Trust = None,
    new: Annotated[
        bool, typer.Option("--new", help="Do not continue a run of this command that ended early: start another.")
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, max=bounds.RUNS, help="Runs, with --seed and the seeds after it; what is finished is not run again."
        ),
    ] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the run's summary as JSON.")] = False,
    *,
    pair: PairOptions,
    cluster: ClusterOptions,
    options: dict[str, Any],
) -> None:
    """Run a program over a problem set and store every token of it.

    Without addresses, a pair is started for the duration: the bundled one, or --base and --reasoning. A run that ended early
    is continued by the same command.
    """
    from datetime import UTC, datetime

    from rrti_sgl.cli import execution, parse, summaries
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.running.runner import run_program, run_seeds
    from rrti_sgl.programs.running.settings import settings_from

    if (program is None) == (resume is None):
        raise UsageError("Either a program or --resume is needed.", "For example: rrti run guided")
    if resume is not None:
        execution.refuse_changes(parse.given(context))
    settings = None if program is None else settings_from(program, **options)
    begun = datetime.now(UTC)
    parts = cluster.folder(db)
    with execution.open_store(db, settings, resume, trust or (), parts=parts) as (store, settings, problem_set):

        async def work(session: PairSession | Workers, progress: RunProgress) -> list[RunRecord]:
            if seeds > 1:
                track = lambda seeded: progress.track(f"{seeded.program}, seed {seeded.seed}")  # noqa: E731
                return await run_seeds(session, store, settings, seeds, anew=new, problem_set=problem_set, track=track)
            shown = progress.track(settings.program)
            record = await run_program(
                session, store, settings, resume=resume, anew=new, problem_set=problem_set, on_progress=shown
            )
            return [record]

        records = execution.share_out(pair, cluster, db, settings, work)
        if seeds > 1:
            summaries.print_seeds(store, records, as_json=json)
            if not json:
                summaries.print_next(db, records[0])
            return
        [record] = records
        summaries.print_run_summary(store, record, as_json=json)
        if not json:
            which = "run" if record.created_at >= begun else "the continued run"
            say(f"\nStored in {db} as {which} {record.run_id}.")
            summaries.print_next(db, record)
