"""`rrti push`: sealed runs into a dataset repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.terminal import say


def push(
    repository: Annotated[
        str, typer.Argument(metavar="OWNER/NAME", help="The dataset repository; made where it is missing.")
    ],
    run: Annotated[list[str] | None, typer.Option(help="Id of a sealed run; may be repeated. None: all.")] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    private: Annotated[bool, typer.Option("--private", help="Only a repository that its members alone see.")] = False,
    revision: Annotated[str, typer.Option(help="The branch; made where it is missing.")] = "main",
    licence: Annotated[str | None, typer.Option(help="Licence of the traces, as the hub names it: cc-by-4.0, say.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace runs that are there with another content.")] = False,
) -> None:
    """Push sealed runs to a dataset repository of the Hugging Face hub, with a card that describes them.

    What is there already is left alone, so pushing twice changes nothing, and a push that was cut off goes on. The token is
    HF_TOKEN's or that of `hf auth login`. A run says where its servers and files were: look at its settings first.
    """
    from rrti_sgl.programs.publishing.pushing import push as put

    done = put(db, repository, runs=run or (), revision=revision, private=private, licence=licence, replace=replace)
    for each in done.new:
        size = f"{each.n_samples} samples, {each.n_tokens} tokens, {each.n_bytes / 1e6:,.1f} MB"
        say(f"{repository}: run {each.run_id}: {size}")
    for each in done.known:
        say(f"{repository}: run {each.run_id} is there already")
    say(f"{repository}: {revision} is at {done.commit[:12]}")
