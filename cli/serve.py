"""`rrti serve`: the pair as SGLang servers, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.pairing import BaseModel, ReasoningModel, ServerFlags, open_pair
from rrti_sgl.cli.terminal import say

_MEMORY, _PLACES = "Memory", "Where"


def serve(
    base: BaseModel = None,
    reasoning: ReasoningModel = None,
    server_flags: ServerFlags = "",
    base_flags: Annotated[
        str, typer.Option(help="SGLang flags for the base server alone; they win.", rich_help_panel="Models")
    ] = "",
    reasoning_flags: Annotated[
        str, typer.Option(help="SGLang flags for the reasoning server alone; they win.", rich_help_panel="Models")
    ] = "",
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="Longest sequence to have room for, tokens. [default: plan for 4096]", rich_help_panel=_MEMORY
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(min=1, help="Sequences of that length at once. [default: what fits]", rich_help_panel=_MEMORY),
    ] = None,
    base_gpu: Annotated[
        str | None, typer.Option(metavar="I[,J...]", help="GPUs of the base model.", rich_help_panel=_PLACES)
    ] = None,
    reasoning_gpu: Annotated[
        str | None, typer.Option(metavar="I[,J...]", help="GPUs of the reasoning model.", rich_help_panel=_PLACES)
    ] = None,
    replicas: Annotated[
        int, typer.Option(min=1, help="Servers of each model, behind SGLang's router.", rich_help_panel=_PLACES)
    ] = 1,
    base_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    reasoning_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto (a GPU if there is one).")] = "auto",
    log_dir: Annotated[Path, typer.Option(help="Folder for the servers' logs.")] = Path("logs"),
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key of both servers; made if it is not there. [default: a new key each time]"),
    ] = None,
) -> None:
    """Start both models as SGLang servers (the bundled pair by default) and keep them up until Ctrl-C.

    On one GPU its memory is split between them; what cannot fit is refused before anything is loaded.
    """
    import shlex
    import time
    from urllib.parse import urlsplit

    from rrti_sgl.cli import parse
    from rrti_sgl.serving import keys
    from rrti_sgl.serving.arrangement import ServingOptions
    from rrti_sgl.serving.memory import Demand

    options = ServingOptions(
        base_flags=shlex.split(base_flags),
        reasoning_flags=shlex.split(reasoning_flags),
        device=device,
        demand=Demand(context, concurrency),
        base_gpus=parse.indices("--base-gpu", base_gpu),
        reasoning_gpus=parse.indices("--reasoning-gpu", reasoning_gpu),
        replicas=replicas,
        ports=(base_port, reasoning_port),
        key=None if api_key_file is None else keys.given_key(api_key_file),
    )
    with open_pair(None, None, base, reasoning, server_flags, log_dir=log_dir, options=options, text=True) as pair:
        say(f"base      {pair.base_url}")
        say(f"reasoning {pair.reasoning_url}")
        say(f"key       in {keys.key_path(urlsplit(pair.base_url).port or 0)}, for you alone; rrti finds it there")
        say(f"\nrrti run guided --base-url {pair.base_url} --reasoning-url {pair.reasoning_url}")
        say("Ctrl-C stops both.")
        while True:
            time.sleep(1)
