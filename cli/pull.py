"""`rrti pull`: sealed runs of a dataset repository of the Hugging Face hub into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import say, say_next


def pull(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The dataset repository.")],
    run: Annotated[list[str] | None, typer.Option(help="Id of a run; may be repeated. None: all.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store; made where it is missing.")] = Path("traces.duckdb"),
    revision: Annotated[str, typer.Option(help="A branch, a tag or a commit.")] = "main",
) -> None:
    """Pull sealed runs from a dataset repository of the Hugging Face hub into a store.

    Every file is compared with the sums in its run's manifest; nothing is attached where one does not fit, or contradicts
    the store. What the store has already is left as it is.
    """
    from rrti_sgl.cli.db import tell_attached
    from rrti_sgl.programs.publishing.pulling import pull as take

    done = take(db, repository, runs=run or (), revision=revision)
    say(f"{repository}: {revision} is at {done.commit[:12]}")
    tell_attached(db, done.runs)
    say_next(db, "runs", 'sql "FROM run_view"')
