"""`rrti serve`: the pair as SGLang servers, until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.pairing import BaseModel, Fused, ReasoningModel, ServerFlags, open_pair
from rrti_sgl.cli.signals import Stopped
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from rrti_sgl.serving.server import ServedPair

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
    fused: Fused = False,
    draft_tokens: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Drafted tokens a round, with --fused. [default: 8]", rich_help_panel="Gate"),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="With --fused: what the gate watches in requests that do not say.", rich_help_panel="Gate")
    ] = "ce",
    tau: Annotated[float | None, typer.Option(help="With --fused: its threshold for these.", rich_help_panel="Gate")] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PKG.MODULE:CLASS", help="With --fused: a gate of yours that requests may name.", rich_help_panel="Gate"
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10**9,
            help="Longest sequence to have room for, tokens. [default: plan for 4096]",
            rich_help_panel=_MEMORY,
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1, max=bounds.COUNT, help="Sequences of that length at once. [default: what fits]", rich_help_panel=_MEMORY
        ),
    ] = None,
    base_gpu: Annotated[
        str | None, typer.Option(metavar="I[,J...]", help="GPUs of the base model.", rich_help_panel=_PLACES)
    ] = None,
    reasoning_gpu: Annotated[
        str | None, typer.Option(metavar="I[,J...]", help="GPUs of the reasoning model.", rich_help_panel=_PLACES)
    ] = None,
    replicas: Annotated[
        int,
        typer.Option(
            min=1,
            max=bounds.GPUS,
            help="Servers of each model, or of both, behind SGLang's router.",
            rich_help_panel=_PLACES,
        ),
    ] = 1,
    base_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    reasoning_port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free port.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto (a GPU if there is one).")] = "auto",
    log_dir: Annotated[Path, typer.Option(help="Folder for the servers' logs.")] = Path("logs"),
    api_key_file: Annotated[
        Path | None,
        typer.Option(help="File with the key of both servers; made if it is not there. [default: a new key each time]"),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Start a server again that dies.")] = False,
) -> None:
    """Start both models as SGLang servers (the bundled pair by default) and keep them up until Ctrl-C.

    On one GPU its memory is split between them; what cannot fit is refused before anything is loaded. If a process of a
    server dies, this says which, shows the end of its log and ends with exit code 4; with `--restart` the server is started
    again at its address, and runs that use it go on. Ctrl-C and SIGTERM are the normal end, with exit code 0.
    """
    from urllib.parse import urlsplit

    from rrti_sgl.cli import parse
    from rrti_sgl.errors import UsageError
    from rrti_sgl.serving import keys
    from rrti_sgl.serving.arrangement import ServingOptions
    from rrti_sgl.serving.flags import words
    from rrti_sgl.serving.memory import Demand

    options = ServingOptions(
        base_flags=words("base_flags", base_flags),
        reasoning_flags=words("reasoning_flags", reasoning_flags),
        device=device,
        demand=Demand(context, concurrency),
        base_gpus=parse.indices("--base-gpu", base_gpu),
        reasoning_gpus=parse.indices("--reasoning-gpu", reasoning_gpu),
        replicas=replicas,
        ports=(base_port, reasoning_port),
        key=None if api_key_file is None else keys.given_key(api_key_file),
        draft_tokens=draft_tokens,
        steering={} if tau is None else {"gate": "divergence", "metric": metric, "tau": tau},
        gates=gate or (),
    )
    if not fused and (draft_tokens is not None or tau is not None or gate):
        message = "--draft-tokens, --tau and --gate are of one server for both models."
        raise UsageError(message, "Add --fused, or leave them out.")
    opened = open_pair(None, None, base, reasoning, server_flags, log_dir=log_dir, options=options, text=True, fused=fused)
    try:
        with opened as pair:
            key = f"in {keys.key_path(urlsplit(pair.base_url).port or 0)}, for you alone; rrti finds it there"
            if fused:
                say(f"both models {pair.base_url}{_replicas(pair.served)}")
                say(f"key         {key}")
                say(f"\nrrti run guided --fused-url {pair.base_url}")
                say("Ctrl-C stops it.")
            else:
                say(f"base      {pair.base_url}")
                say(f"reasoning {pair.reasoning_url}")
                say(f"key       {key}")
                say(f"\nrrti run guided --base-url {pair.base_url} --reasoning-url {pair.reasoning_url}")
                say("Ctrl-C stops both.")
            assert pair.served is not None
            _watch(pair.served, restart=restart)
    except Stopped:
        one = "The server is stopped." if replicas == 1 else f"The {replicas} servers are stopped."
        say(one if fused else "Both servers are stopped.")


def _replicas(served: ServedPair | None) -> str:
    """The servers behind an address that is a router's; nothing for a server's own."""
    from rrti_sgl.serving.router import Replicas

    router = served.base if served is not None else None
    return f" (router of {', '.join(server.url for server in router.servers)})" if isinstance(router, Replicas) else ""


def _watch(served: ServedPair, *, restart: bool) -> None:
    """Look after the servers for as long as they live, or, where they are started again, until a signal comes.

    Raises:
        EndpointError: a process of a server died.
        ServerLaunchError: a server that died does not come up again.
    """
    import time

    from rrti_sgl.errors import EndpointError

    while True:
        if lost := served.lost():
            what = "\n".join(lost.values())
            if not restart:
                raise EndpointError(what, "Mend the cause that the log names. With --restart it would be started again.")
            say(f"{what}\nStarting it again ...", err=True)
            served.restart(lost)
            say("The server answers again." if served.base is served.reasoning else "Both servers answer again.", err=True)
        time.sleep(1)
