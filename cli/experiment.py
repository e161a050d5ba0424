"""`rrti experiment FILE`: a whole grid of runs, described by one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.options import with_options
from rrti_sgl.cli.terminal import say


@with_options(())
def experiment(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|compare",
            help="A TOML file, or the name of a shipped one, such as demo; or compare, and folders.",
        ),
    ],
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[OUT]...", help="After compare: the folders of finished experiments.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print plan, prompts, requests and disk; start nothing.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for store, report and logs, in place of the file's.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=bounds.COUNT, help="No more than so many problems of every set: to try an experiment out."),
    ] = None,
    tokenizer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[MODEL=]FOLDER",
            help="Tokenizer of base, reasoning or reference, or of all, in place of the file's; repeat.",
        ),
    ] = None,
    endpoint_url: Annotated[
        str | None,
        typer.Option(help="Address of an endpoint (`rrti api`) to run it through, in place of the file's servers."),
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Print a shipped file, to begin your own with.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print plan or results as JSON.")] = False,
    *,
    cluster: ClusterOptions,
) -> None:
    """Run a grid: calibrate once, then every program on every evaluation, then write the report.

    The same command continues what ended early; runs that the store has are not run again. `rrti experiment compare OUT OUT`
    puts finished experiments into one table for each problem set.
    """
    from rrti_sgl.cli import experiment_output, parse
    from rrti_sgl.cli.experiment_run import run_experiment
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.experiments.grid import build_grid
    from rrti_sgl.programs.experiments.loading import load_experiment, on_running, shipped_text, through_endpoint
    from rrti_sgl.programs.experiments.plan import make_plan
    from rrti_sgl.programs.experiments.preflight import check_experiment
    from rrti_sgl.programs.experiments.spec import with_tokenizers

    if source == "compare":
        return experiment_output.print_compared(folders or (), as_json=json)
    if folders:
        raise UsageError(
            f"One file is run at a time; {folders[0]} is another.", "To compare: rrti experiment compare OUT OUT"
        )
    if show:
        say(shipped_text(source), nl=False)
        return
    cluster.check()
    loaded = load_experiment(source)
    if endpoint_url is not None and cluster.ray is not None:
        raise UsageError("--endpoint-url is one address, and --ray takes many pairs.", "Name each pair: --pair-at URL[,URL]")
    if endpoint_url is not None:
        loaded = through_endpoint(loaded, endpoint_url)
    elif cluster.addresses:
        loaded = on_running(loaded, *cluster.addresses[0])
    spec = with_tokenizers(loaded.spec if out is None else loaded.spec.model_copy(update={"out": out}), tokenizer or ())
    grid = build_grid(spec, loaded.complaints, limit=limit)
    findings = check_experiment(spec, grid, loaded.complaints)
    loaded.complaints.raise_if_any()
    if dry_run:
        experiment_output.print_plan(make_plan(spec, grid, findings), loaded.complaints.source, as_json=json)
        return
    again = " ".join(["rrti experiment", source, *parse.typed(context)])
    experiment_output.print_results(run_experiment(spec, grid, findings, again, cluster), as_json=json)
