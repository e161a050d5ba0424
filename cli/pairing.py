"""Options that name a pair of models, for every command that needs one, and the pair itself for the command's duration."""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from rrti_sgl.errors import UsageError

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


@dataclass(frozen=True, slots=True)
class PairAddress:
    """Where the two servers are."""

    base_url: str
    reasoning_url: str


@contextlib.contextmanager
def open_pair(
    base_url: str | None,
    reasoning_url: str | None,
    base: str | None,
    reasoning: str | None,
    server_flags: str = "",
    *,
    log_dir: Path | None = None,
    device: str = "auto",
    ports: tuple[int, int] = (0, 0),
) -> Iterator[PairAddress]:
    """Use the servers at the two addresses, or start a pair (by default the bundled one) for as long as this lasts.

    Raises:
        UsageError: half a pair, or both addresses and models.
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
    from rrti_sgl.serving.server import ServedPair, Server, bundled_servers

    logs = log_dir or Path(tempfile.mkdtemp(prefix="rrti-logs-"))
    flags = shlex.split(server_flags)
    if base is None or reasoning is None:
        servers = bundled_servers(logs, flags, device=device)
    else:
        servers = (
            Server(base, "base", logs, flags, device=device),
            Server(reasoning, "reasoning", logs, flags, device=device),
        )
    for server, port in zip(servers, ports, strict=True):
        server.port = port
    console = Console(stderr=True)
    with contextlib.ExitStack() as stack:
        status = console.status("Starting two SGLang servers ...")

        def on_wait(seconds: float, missing: list[str]) -> None:
            status.update(
                f"Starting two SGLang servers: waiting for {' and '.join(missing)}, {seconds:.0f} s (logs: {logs})"
            )

        with status:
            pair = stack.enter_context(ServedPair(*servers, on_wait))
        yield PairAddress(pair.base.url, pair.reasoning.url)
