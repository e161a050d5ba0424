"""`rrti serve`: the pair as SGLang servers, until Ctrl-C."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.pairing import BaseModel, Fused, ReasoningModel, ServerFlags, in_models, open_pair
from rrti_sgl.cli.signals import Stopped, run_async
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from rrti_sgl.serving.opening import PairAddress
    from rrti_sgl.serving.server import ServedPair

_in_gate = partial(typer.Option, rich_help_panel="Gate")
_in_memory = partial(typer.Option, rich_help_panel="Memory")
_in_places = partial(typer.Option, rich_help_panel="Where")
_in_endpoint = partial(typer.Option, rich_help_panel="Endpoint")


def serve(
    base: BaseModel = None,
    reasoning: ReasoningModel = None,
    server_flags: ServerFlags = "",
    base_flags: Annotated[str, in_models(help="SGLang flags for the base server alone; they win.")] = "",
    reasoning_flags: Annotated[str, in_models(help="SGLang flags for the reasoning server alone; they win.")] = "",
    fused: Fused = False,
    draft_tokens: Annotated[
        int | None, _in_gate(min=1, max=1024, help="Most drafted tokens a round, with --fused. [default: 16, on a GPU 8]")
    ] = None,
    metric: Annotated[str, _in_gate(help="With --fused: what the gate watches in requests that do not say.")] = "ce",
    tau: Annotated[float | None, _in_gate(help="With --fused: its threshold for these.")] = None,
    gate: Annotated[
        list[str] | None, _in_gate(metavar="PKG.MODULE:CLASS", help="With --fused: a gate of yours that requests may name.")
    ] = None,
    context: Annotated[
        int | None, _in_memory(min=1, max=10**9, help="Longest sequence to have room for, tokens. [default: plan for 4096]")
    ] = None,
    concurrency: Annotated[
        int | None, _in_memory(min=1, max=bounds.COUNT, help="Sequences of that length at once. [default: what fits]")
    ] = None,
    base_gpu: Annotated[str | None, _in_places(metavar="I[,J...]", help="GPUs of the base model.")] = None,
    reasoning_gpu: Annotated[str | None, _in_places(metavar="I[,J...]", help="GPUs of the reasoning model.")] = None,
    replicas: Annotated[
        int, _in_places(min=1, max=bounds.GPUS, help="Servers of each model, or of both, behind SGLang's router.")
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
    api: Annotated[
        bool, _in_endpoint("--api", help="Serve an OpenAI-compatible endpoint over them, as `rrti api`.")
    ] = False,
    api_port: Annotated[int, _in_endpoint(min=0, max=65535, help="Its port; 0 takes a free one.")] = 8000,
    db: Annotated[
        Path | None, _in_endpoint(help="With --api: keep every trace in this store, and take thresholds there.")
    ] = None,
) -> None:
    """Start both models as SGLang servers (the bundled pair by default) and keep them up until Ctrl-C.

    On one GPU its memory is split between them; what cannot fit is refused before anything is loaded. If a process of a
    server dies, this says which, shows the end of its log and ends with exit code 4; with `--restart` the server is started
    again at its address, and runs that use it go on. `--api` serves an OpenAI-compatible endpoint over them.
    Ctrl-C and SIGTERM are the normal end, with exit code 0.
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
        steering={} if tau is None or not fused else {"gate": "divergence", "metric": metric, "tau": tau},
        gates=gate or (),
    )
    if not fused and (draft_tokens is not None or (tau is not None and not api) or gate):
        message = "--draft-tokens, --tau and --gate are of one server for both models."
        raise UsageError(message, "Add --fused, or leave them out.")
    if db is not None and not api:
        raise UsageError("--db is of the endpoint.", "Add --api, or leave it out.")
    serving = _endpoint(api_port, db, metric, tau) if api else None
    opened = open_pair(None, None, base, reasoning, server_flags, log_dir=log_dir, options=options, text=True, fused=fused)
    try:
        with opened as pair:
            key = f"in {keys.key_path(urlsplit(pair.base_url).port or 0)}, for you alone; rrti finds it there"
            if fused:
                say(f"both models {pair.base_url}{_replicas(pair.served)}")
                say(f"key         {key}")
                say(f"\nrrti run guided --fused-url {pair.base_url}")
            else:
                say(f"base      {pair.base_url}")
                say(f"reasoning {pair.reasoning_url}")
                say(f"key       {key}")
                say(f"\nrrti run guided --base-url {pair.base_url} --reasoning-url {pair.reasoning_url}")
            assert pair.served is not None
            if serving is not None:
                run_async(serving(pair, _watched(pair.served, restart=restart)))
            say("Ctrl-C stops it." if fused else "Ctrl-C stops both.")
            _watch(pair.served, restart=restart)
    except Stopped:
        one = "The server is stopped." if replicas == 1 else f"The {replicas} servers are stopped."
        say(one if fused else "Both servers are stopped.")


def _replicas(served: ServedPair | None) -> str:
    """The servers behind an address that is a router's; nothing for a server's own."""
    from rrti_sgl.serving.router import Replicas

    router = served.base if served is not None else None
    return f" (router of {', '.join(server.url for server in router.servers)})" if isinstance(router, Replicas) else ""


def _endpoint(
    port: int, db: Path | None, metric: str, tau: float | None
) -> Callable[[PairAddress, Coroutine[Any, Any, None]], Coroutine[Any, Any, None]]:
    """What serves the endpoint of a pair, with something beside it; checked before any server is started."""
    from rrti_sgl.cli.api import answering, endpoint_key
    from rrti_sgl.cli.pairing import PairOptions
    from rrti_sgl.programs.web import check_installed

    check_installed("endpoint", "fastapi", "prometheus-client", "uvicorn")
    from rrti_sgl.programs.api.admission import Limits
    from rrti_sgl.programs.running.settings import settings_from
    from rrti_sgl.programs.web.serving import Place

    settings = settings_from("base", temperature=1.0, metric=metric, tau=tau)
    place = Place(port=port, endpoint_key=endpoint_key(None))
    return lambda pair, beside: answering(pair, PairOptions(), settings, Limits(), place, db, beside)


async def _watched(served: ServedPair, *, restart: bool) -> None:
    """`_watch` beside an event loop."""
    import asyncio

    while True:
        await asyncio.to_thread(_look, served, restart=restart)
        await asyncio.sleep(1)


def _watch(served: ServedPair, *, restart: bool) -> None:
    """Look after the servers for as long as they live, or, where they are started again, until a signal comes.

    Raises:
        EndpointError: a process of a server died.
        ServerLaunchError: a server that died does not come up again.
    """
    import time

    while True:
        _look(served, restart=restart)
        time.sleep(1)


def _look(served: ServedPair, *, restart: bool) -> None:
    from rrti_sgl.errors import EndpointError

    if lost := served.lost():
        what = "\n".join(lost.values())
        if not restart:
            raise EndpointError(what, "Mend the cause that the log names. With --restart it would be started again.")
        say(f"{what}\nStarting it again ...", err=True)
        served.restart(lost)
        say("The server answers again." if served.base is served.reasoning else "Both servers answer again.", err=True)
