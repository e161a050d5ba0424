"""A pair of models by name or address, for as long as a context lasts: the servers that are there, or two of our own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.serving.flags import words

if TYPE_CHECKING:
    from rrti_sgl.serving.arrangement import ServingOptions
    from rrti_sgl.serving.server import ServedPair


@dataclass(frozen=True, slots=True)
class PairAddress:
    """Where the two servers are.

    Args:
        base_url: address of the base model's.
        reasoning_url: address of the reasoning model's.
        served: the servers, where they were started here.
    """

    base_url: str
    reasoning_url: str
    served: ServedPair | None = None


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who wants to know what happens while servers start.

    Args:
        note: called with a sentence on how memory is divided.
        wait: called about twice a second with the seconds passed, the names still missing, and the folder of the logs.
    """

    note: Callable[[str], None] = lambda text: None
    wait: Callable[[float, Sequence[str], Path], None] = lambda seconds, missing, logs: None


@contextlib.contextmanager
def open_pair(
    base_url: str | None,
    reasoning_url: str | None,
    base: str | None,
    reasoning: str | None,
    server_flags: str = "",
    *,
    log_dir: Path | None = None,
    options: ServingOptions | None = None,
    text: bool = False,
    fused: bool = False,
    watcher: Watcher | None = None,
) -> Iterator[PairAddress]:
    """Use the servers at the two addresses, or start a pair (by default the bundled one) for as long as this lasts.

    Args:
        base_url: address of a running base server.
        reasoning_url: address of a running reasoning server.
        base: base model to serve.
        reasoning: reasoning model to serve.
        server_flags: SGLang flags for both servers; each server's own come after them.
        log_dir: folder for the servers' logs; None takes a temporary one.
        options: how to serve.
        text: let the servers that are started take and give text, for others than us; programs send and read token ids
            alone, and servers that know only of these do about half as much again.
        fused: start one server that holds both models, or a router before several; the two addresses are its one.
        watcher: is told what happens meanwhile.

    Raises:
        UsageError: half a pair, both addresses and models, flags or a folder that are none, or servers that cannot be had
            here.
        PairMismatchError: the two models to serve do not share a vocabulary.
    """
    if (base_url is None) != (reasoning_url is None) or (base is None) != (reasoning is None):
        raise UsageError(
            "Half a pair was given.",
            f"Give both {argument('base_url')} and {argument('reasoning_url')}, or both {argument('base')} and "
            f"{argument('reasoning')}.",
        )
    named = {"base_url": base_url, "reasoning_url": reasoning_url, "base": base, "reasoning": reasoning}
    if blank := [name for name, value in named.items() if value is not None and not value.strip()]:
        raise UsageError(f"{argument(blank[0], text=repr(named[blank[0]]))} names nothing.", "Name it, or leave it out.")
    given = words("flags", server_flags)
    if base_url is not None and reasoning_url is not None:
        if base is not None or fused:
            raise UsageError(
                "Both addresses and what to start were given.",
                f"Leave out {argument('base')}, {argument('reasoning')} and {argument('fused')}.",
            )
        yield PairAddress(base_url, reasoning_url)
        return
    from rrti_sgl.serving.arrangement import ServingOptions, arrange, check_tokenizers
    from rrti_sgl.serving.fused import arrange_fused
    from rrti_sgl.serving.server import STREAMS_WHAT_IS_NEW, TOKEN_IDS_ONLY, Server, bundled_servers
    from rrti_sgl.serving.versions import check_installed

    check_installed()
    watching = watcher or Watcher()
    logs = _made(log_dir) if log_dir is not None else Path(tempfile.mkdtemp(prefix="rrti-logs-"))
    options = options or ServingOptions()
    # A program asks servers that hold both models themselves, and those of one model by their router, which reads texts.
    ids_only = () if text or (options.replicas > 1 and not fused) else TOKEN_IDS_ONLY
    flags = [*ids_only, *(STREAMS_WHAT_IS_NEW if fused and ids_only else ()), *given]
    options = replace(options, base_flags=[*flags, *options.base_flags], reasoning_flags=[*flags, *options.reasoning_flags])
    if base is None or reasoning is None:
        servers = bundled_servers(logs, device=options.device)
    else:
        servers = (
            Server(base, "base", logs, options.base_flags, device=options.device),
            Server(reasoning, "reasoning", logs, options.reasoning_flags, device=options.device),
        )
        check_tokenizers(*servers)
    arranged = arrange_fused(*servers, options) if fused else arrange(*servers, options)
    for note in arranged.notes:
        watching.note(note)
    arranged.pair.on_wait = lambda seconds, missing: watching.wait(seconds, missing, logs)
    with arranged.pair as pair:
        yield PairAddress(pair.base.url, pair.reasoning.url, pair)


def _made(log_dir: Path) -> Path:
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = argument("log_dir", text=f"{str(log_dir)!r} cannot be made ({error.strerror}).")
        raise UsageError(why, "Name another folder.") from error
    return log_dir
