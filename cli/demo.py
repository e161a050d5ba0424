"""`rrti demo`: the whole method on the bundled pair, in a few minutes, into a store of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.terminal import console, say
from rrti_sgl.programs.reporting.writing import make_folder


def demo(
    out: Annotated[Path, typer.Option(help="Folder for traces.duckdb and report.md.")] = Path("demo"),
    problems: Annotated[int, typer.Option(min=2, max=bounds.COUNT, help="Held-out problems of the greedy rows.")] = 200,
    sampled_problems: Annotated[
        int, typer.Option(min=2, max=bounds.COUNT, help="Held-out problems of the sampled rows.")
    ] = 30,
    samples: Annotated[int, typer.Option(min=2, max=bounds.COUNT, help="Samples for each of those.")] = 8,
    in_flight: Annotated[int, typer.Option(min=1, max=4096, help="Samples at once.")] = 64,
) -> None:
    """Watch a base model go wrong, see where a reasoning model disagrees, and put it right with a few tokens.

    Starts the bundled pair, without a GPU as one SGLang server, with one as two; runs every program, and prints what the
    paper's tables ask.
    """
    from rich.text import Text

    from rrti_sgl.cli.pairing import open_pair
    from rrti_sgl.cli.progress import RunProgress
    from rrti_sgl.cli.signals import run_async
    from rrti_sgl.cli.tables import print_tables
    from rrti_sgl.db.store import Store
    from rrti_sgl.programs.demonstration.demo import DemoRuns, DemoSize, run_demo
    from rrti_sgl.programs.demonstration.report import report_tables, restored_sample, write_report
    from rrti_sgl.programs.running.session import Concurrency, open_session
    from rrti_sgl.programs.tables.sample_view import SampleView
    from rrti_sgl.serving.server import has_gpu

    size = DemoSize(problems=problems, sampled_problems=sampled_problems, samples=samples)
    database = fresh_database(out)

    async def run_all(store: Store, base_url: str, reasoning_url: str) -> DemoRuns:
        async with open_session(base_url, reasoning_url, Concurrency(in_flight)) as session:
            with RunProgress() as progress:
                return await run_demo(session, store, size, progress.track)

    with Store.open(database) as store:
        # By measurement, two cores spend less than half as much on one server for both models; on a GPU it is not tried.
        with open_pair(None, None, None, None, log_dir=out / "logs", fused=not has_gpu()) as servers:
            one = servers.base_url == servers.reasoning_url
            found = (
                "One server holds both models: faster on CPUs"
                if one
                else "Two servers: on GPUs one for both is not measured"
            )
            say(f"{found}, see docs/performance.md.", err=True)
            runs = run_async(run_all(store, servers.base_url, servers.reasoning_url))
        tables = report_tables(store, runs)
        write_report(out / "report.md", store, tables)
        sample = store.load_sample(restored_sample(store, runs))
        run = store.get_run(sample.sample.run_id)
        problem = store.get_problem(run.problem_set, sample.sample.problem_id)
    shown = console()
    print_tables(tables)
    shown.print(Text.assemble("\n", ("A wrong answer put right", "bold"), " (base alone fails on this problem)"))
    shown.print(SampleView(run, problem, sample, "ce", f"sample {sample.sample.sample_id}, guided"))
    shown.print(f"\nStore: {database}   Report: {out / 'report.md'}\nTry next:")
    for command in (
        f"rrti show {sample.sample.sample_id} --db {database} --tokens",
        f"rrti report --db {database} --out {out / 'report'}",
        f'rrti sql "SELECT program, rho, accuracy FROM run_view" --db {database}',
    ):
        shown.print(f"  {command}", soft_wrap=True)


def fresh_database(out: Path) -> Path:
    """Path of the demonstration's store; that of an earlier demonstration is kept beside it."""
    make_folder(out)
    database = out / "traces.duckdb"
    for suffix in ("", ".wal"):
        earlier = database.with_name(database.name + suffix)
        if earlier.exists():
            earlier.replace(out / f"traces.previous.duckdb{suffix}")
    return database
