"""`rrti api`: an OpenAI-compatible endpoint over servers that run."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrti_sgl import bounds
from rrti_sgl.cli.options import RUN_OPTIONS, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.signals import Stopped, run_async
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from rrti_sgl.programs.api.admission import Limits
    from rrti_sgl.programs.running.settings import RunSettings
    from rrti_sgl.serving.opening import PairAddress

_in_endpoint = partial(typer.Option, rich_help_panel="Endpoint")
KEY_VARIABLE = "RRTI_ENDPOINT_KEY"
_LEFT_OUT = {
    *("top_k_mass", "decoding", "exchanged", "allow_overlap", "tagger"),
    *("like", "match", "deferral", "gate", "gate_params"),  # of gates that no model of the endpoint has
}
_OPTIONS = [name for name, entry in RUN_OPTIONS.items() if entry.option.panel in ("Prompts", "Decoding", "Gate")]
Port = Annotated[int, _in_endpoint(min=0, max=65535, help="0 takes a free port.")]


@with_options([name for name in _OPTIONS if name not in _LEFT_OUT], temperature=1.0)
def api(
    db: Annotated[
        Path | None, typer.Option(help="Keep every answer's trace in this store, which has the calibrations, too.")
    ] = None,
    host: Annotated[
        str, _in_endpoint(help="Address to listen at; others than this machine's own need a key.")
    ] = "127.0.0.1",
    port: Port = 8000,
    endpoint_key_file: Annotated[
        Path | None,
        _in_endpoint(help=f"File with the key that clients have to show; made if it is not there. Or {KEY_VARIABLE}."),
    ] = None,
    max_waiting: Annotated[
        int, _in_endpoint(min=0, max=bounds.COUNT, help="Samples that may wait; others are told 429.")
    ] = 256,
    max_body: Annotated[int, _in_endpoint(min=1, max=2**30, help="Most bytes of a request.")] = 2**20,
    grace: Annotated[float, _in_endpoint(min=0, max=86400, help="Seconds for running requests when it stops.")] = 30.0,
    *,
    pair: PairOptions,
    options: dict[str, Any],
) -> None:
    """Serve the pair as an OpenAI-compatible endpoint: each program is a model, until Ctrl-C.

    Without addresses, a pair is started for the duration. Ctrl-C and SIGTERM take no new requests, let those that run
    finish within `--grace` seconds, and store every trace; they are the normal end, with exit code 0.
    """
    from rrti_sgl.programs.web import check_installed

    check_installed("endpoint", "fastapi", "prometheus-client", "uvicorn")
    from rrti_sgl.programs.api.admission import Limits
    from rrti_sgl.programs.running.settings import settings_from
    from rrti_sgl.programs.web.serving import Place

    pair.check_servers("rrti api")
    settings = settings_from("base", **{"temperature": 1.0, **options})
    limits = Limits(waiting=max_waiting, body_bytes=max_body, grace_s=grace)
    place = Place(host, port, endpoint_key(endpoint_key_file))
    try:
        with pair.open() as address:
            run_async(answering(address, pair, settings, limits, place, db))
    except Stopped:
        say("The endpoint is stopped.")


def endpoint_key(path: Path | None) -> str | None:
    """The key of clients, from a file or the environment.

    Raises:
        UsageError: it is none, or the file is not for its owner alone.
    """
    from rrti_sgl.errors import UsageError
    from rrti_sgl.serving.keys import given_key, is_key

    if path is not None:
        return given_key(path)
    key = os.environ.get(KEY_VARIABLE)
    if key is not None and (len(key) < 16 or not is_key(key)):
        raise UsageError(f"{KEY_VARIABLE} is no key.", "Give 16 characters or more, without blanks, in ASCII.")
    return key


async def answering(
    address: PairAddress,
    pair: PairOptions,
    settings: RunSettings,
    limits: Limits,
    place: Any,
    db: Path | None,
    beside: Coroutine[Any, Any, None] | None = None,
) -> None:
    """Serve the endpoint until cancelled, or until what runs beside it fails."""
    import asyncio

    from rrti_sgl.programs.api.serving import open_endpoint, serve
    from rrti_sgl.programs.web.serving import url_of

    opening = pair.session(address, settings.special_tokens)
    async with opening as session, open_endpoint(session, settings, limits=limits, db=db) as endpoint:
        with place.listen() as listening:
            say(f"endpoint  {url_of(listening)}/v1")
            say(f"models    {', '.join(endpoint.models.names())}")
            if not any(name.startswith("guided") for name in endpoint.models.names()):
                say('guided needs a threshold: --tau, a calibration in --db, or "rrti": {"tau": ...} in a request.')
            say("Ctrl-C stops it.")
            if beside is None:
                await serve(endpoint, place, listening)
                return
            serving, looking = asyncio.create_task(serve(endpoint, place, listening)), asyncio.create_task(beside)
            try:
                await asyncio.wait({serving, looking}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                serving.cancel()
                looking.cancel()
                found = await asyncio.gather(serving, looking, return_exceptions=True)
            for error in found:
                if isinstance(error, Exception):
                    raise error
