"""`rrti serve`: the pair as two SGLang servers, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.pairing import BaseModel, ReasoningModel, ServerFlags, open_pair


def serve(
    base: BaseModel = None,
    reasoning: ReasoningModel = None,
    server_flags: ServerFlags = "",
    base_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    reasoning_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto (a GPU if there is one).")] = "auto",
    log_dir: Annotated[Path, typer.Option(help="Folder for the servers' logs.")] = Path("logs"),
) -> None:
    """Start both models as SGLang servers (the bundled pair by default) and keep them up until Ctrl-C."""
    import time

    with open_pair(
        None, None, base, reasoning, server_flags, log_dir=log_dir, device=device, ports=(base_port, reasoning_port)
    ) as pair:
        typer.echo(f"base      {pair.base_url}")
        typer.echo(f"reasoning {pair.reasoning_url}")
        typer.echo(f"\nrrti run guided --base-url {pair.base_url} --reasoning-url {pair.reasoning_url}")
        typer.echo("Ctrl-C stops both.")
        while True:
            time.sleep(1)
