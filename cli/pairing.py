"""Options that name a pair of models, for every command that needs one, and the pair itself for the command's duration."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from rrti_sgl.errors import UsageError

if TYPE_CHECKING:
    from rrti_sgl.serving.arrangement import ServingOptions

BaseUrl = Annotated[str | None, typer.Option(help="Address of a running base server.", rich_help_panel="Models")]
ReasoningUrl = Annotated[str | None, typer.Option(help="Address of a running reasoning server.", rich_help_panel="Models")]
BaseModel = Annotated[
    str | None, typer.Option("--base", help="Base model to serve: hub id or folder.", rich_help_panel="Models")
]
ReasoningModel = Annotated[
    str | None, typer.Option("--reasoning", help="Reasoning model to serve: hub id or folder.", rich_help_panel="Models")
]
ServerFlags = Annotated[str, typer.Option(help='SGLang flags for both servers, e.g. "--tp 2".', rich_help_panel="Models")]
TokenizerOption = Annotated[
    str | None, typer.Option(help="Tokenizer folder or hub id, if not the servers'.", rich_help_panel="Models")
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="RRTI_API_KEY", help="Key of both servers.", rich_help_panel="Models", show_envvar=True),
]
InFlight = Annotated[int, typer.Option(min=1, max=4096, help="Samples at once.", rich_help_panel="Decoding")]


@dataclass(frozen=True, slots=True)
class PairAddress:
    """Where the two servers are."""

    base_url: str
    reasoning_url: str


@dataclass(frozen=True, slots=True)
class PairOptions:
    """What names a pair on the command line, and how many samples it works on at once."""

    base_url: BaseUrl = None
    reasoning_url: ReasoningUrl = None
    base: BaseModel = None
    reasoning: ReasoningModel = None
    server_flags: ServerFlags = ""
    tokenizer: TokenizerOption = None
    api_key: ApiKey = None
    in_flight: InFlight = 64

    def open(self) -> contextlib.AbstractContextManager[PairAddress]:
        """The pair for as long as this lasts; see `open_pair`."""
        return open_pair(self.base_url, self.reasoning_url, self.base, self.reasoning, self.server_flags)


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

    Raises:
        UsageError: half a pair, both addresses and models, or servers that cannot be had here.
        PairMismatchError: the two models to serve do not share a vocabulary.
    """
    if (base_url is None) != (reasoning_url is None) or (base is None) != (reasoning is None):
        raise UsageError(
            "Half a pair was given.", "Give both --base-url and --reasoning-url, or both --base and --reasoning."
        )
    if base_url is not None and reasoning_url is not None:
        if base is not None:
            raise UsageError("Both addresses and models were given.", "Leave out --base and --reasoning.")
        yield PairAddress(base_url, reasoning_url)
        return
    from rrti_sgl.serving.arrangement import ServingOptions, arrange, check_tokenizers
    from rrti_sgl.serving.server import TOKEN_IDS_ONLY, Server, bundled_servers

    logs = log_dir or Path(tempfile.mkdtemp(prefix="rrti-logs-"))
    options = options or ServingOptions()
    ids_only = () if text or options.replicas > 1 else TOKEN_IDS_ONLY
    flags = [*ids_only, *shlex.split(server_flags)]
    options = replace(options, base_flags=[*flags, *options.base_flags], reasoning_flags=[*flags, *options.reasoning_flags])
    if base is None or reasoning is None:
        servers = bundled_servers(logs, device=options.device)
    else:
        servers = (
            Server(base, "base", logs, options.base_flags, device=options.device),
            Server(reasoning, "reasoning", logs, options.reasoning_flags, device=options.device),
        )
        check_tokenizers(*servers)
    arranged = arrange(*servers, options)
    console = Console(stderr=True)
    for note in arranged.notes:
        console.print(note, highlight=False, soft_wrap=True)
    with contextlib.ExitStack() as stack:
        status = console.status("Starting two SGLang servers ...")

        def on_wait(seconds: float, missing: list[str]) -> None:
            status.update(
                f"Starting two SGLang servers: waiting for {' and '.join(missing)}, {seconds:.0f} s (logs: {logs})"
            )

        with status:
            arranged.pair.on_wait = on_wait
            pair = stack.enter_context(arranged.pair)
        yield PairAddress(pair.base.url, pair.reasoning.url)
