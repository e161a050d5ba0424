"""Options that name a pair of models, for every command that needs one, and the pair itself for the command's duration."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from rrti_sgl import bounds
from rrti_sgl.cli.terminal import console
from rrti_sgl.errors import UsageError
from rrti_sgl.serving import opening
from rrti_sgl.serving.opening import PairAddress, Watcher

if TYPE_CHECKING:
    from rrti_sgl.programs.cluster.member import PairOpening
    from rrti_sgl.programs.running.session import PairSession
    from rrti_sgl.tokens.special_tokens import SpecialTokens

in_models = partial(typer.Option, rich_help_panel="Models")
Fused = Annotated[bool, in_models("--fused", help="Start one server for both models.")]
BaseModel = Annotated[str | None, in_models("--base", help="Base model to serve: hub id or folder.")]
ReasoningModel = Annotated[str | None, in_models("--reasoning", help="Reasoning model to serve: hub id or folder.")]
ServerFlags = Annotated[str, in_models(help='SGLang flags for both servers, e.g. "--tp 2".')]


@dataclass(frozen=True, slots=True)
class PairOptions:
    """What names a pair on the command line, and how many samples it works on at once."""

    base_url: Annotated[str | None, in_models(help="Address of a running base server.")] = None
    reasoning_url: Annotated[str | None, in_models(help="Address of a running reasoning server.")] = None
    fused_url: Annotated[
        list[str] | None, in_models(help="Address of a running server that holds both models; repeat for replicas.")
    ] = None
    endpoint_url: Annotated[str | None, in_models(help="Address of an endpoint (`rrti api`) to go through.")] = None
    fused: Fused = False
    base: BaseModel = None
    reasoning: ReasoningModel = None
    server_flags: ServerFlags = ""
    tokenizer: Annotated[str | None, in_models(help="Tokenizer folder or hub id, if not the servers'.")] = None
    api_key: Annotated[str | None, in_models(envvar="RRTI_API_KEY", help="Key of both servers.", show_envvar=True)] = None
    patience: Annotated[float, in_models(help="Wait so many seconds for a server that is started again in mid-run.")] = (
        bounds.PATIENCE_S
    )
    in_flight: Annotated[
        int, typer.Option(min=1, max=bounds.IN_FLIGHT, help="Samples at once.", rich_help_panel="Decoding")
    ] = 64

    def open(self, gates: Sequence[str] = ()) -> contextlib.AbstractContextManager[PairAddress]:
        """The pair for as long as this lasts, see `open_pair`; `gates` are what a fused server has to know."""
        from rrti_sgl.engines.endpoint import as_address
        from rrti_sgl.serving.arrangement import ServingOptions

        urls: tuple[str | None, str | None] = (self.base_url, self.reasoning_url)
        fused_url = ",".join(self.fused_url) if self.fused_url else None
        for flag, url in (("--fused-url", fused_url), ("--endpoint-url", self.endpoint_url)):
            if url is not None:
                if self.fused or any(other is not None for other in urls):
                    raise UsageError(f"{flag} {url} was given beside --fused or other addresses.", "Leave the others out.")
                urls = (url, url)
        if fused_url is not None:
            asyncio.run(_check_holds_both(fused_url, self.api_key))
        elif self.endpoint_url is not None:
            urls = (as_address(self.endpoint_url),) * 2
        options = ServingOptions(gates=gates)
        return open_pair(*urls, self.base, self.reasoning, self.server_flags, options=options, fused=self.fused)

    def check_servers(self, what: str) -> None:
        """Refuse an endpoint for what asks each of the two models itself.

        Args:
            what: asks them, as a message begins with it.

        Raises:
            UsageError: names the address.
        """
        from rrti_sgl.engines.endpoint import is_endpoint

        both = self.base_url if is_endpoint(self.base_url, self.reasoning_url) else None
        for flag, url in (("--endpoint-url", self.endpoint_url), ("--base-url", both)):
            if url is not None:
                raise UsageError(
                    f"{flag} {url} is an endpoint: it gives whole samples, and {what} asks each model for itself.",
                    "Name the servers behind it: --base-url and --reasoning-url, or --fused-url.",
                )

    def session(
        self, address: PairAddress, special_tokens: SpecialTokens
    ) -> contextlib.AbstractAsyncContextManager[PairSession]:
        """A session on the open pair."""
        from rrti_sgl.programs.running.session import Concurrency, open_session

        urls = (address.base_url, address.reasoning_url)
        return open_session(*urls, Concurrency(self.in_flight), **self._connecting(special_tokens))

    def opening(self, special_tokens: SpecialTokens, gates: Sequence[str] = ()) -> PairOpening:
        """How each actor of a cluster opens such a pair."""
        from rrti_sgl.programs.cluster.member import PairOpening
        from rrti_sgl.programs.running.session import Concurrency
        from rrti_sgl.serving.arrangement import ServingOptions

        named = self.fused_url[0] if self.fused_url else self.endpoint_url
        return PairOpening(
            named or self.base_url,
            named or self.reasoning_url,
            self.base,
            self.reasoning,
            self.server_flags,
            self.fused,
            ServingOptions(gates=gates),
            concurrency=Concurrency(self.in_flight),
            connecting=self._connecting(special_tokens),
        )

    def _connecting(self, special_tokens: SpecialTokens) -> dict[str, Any]:
        from rrti_sgl.engines.transport import TransportLimits

        limits = TransportLimits(patience_s=self.patience)
        return {
            "tokenizer": self.tokenizer,
            "api_key": self.api_key,
            "limits": limits,
            "special_tokens": special_tokens,
        }


async def _check_holds_both(url: str, api_key: str | None) -> None:
    from rrti_sgl.engines.fused_server import connect_fused

    async with connect_fused(url, api_key=api_key):
        pass


@contextlib.contextmanager
def open_pair(
    base_url: str | None, reasoning_url: str | None, base: str | None, reasoning: str | None, flags: str = "", **more: Any
) -> Iterator[PairAddress]:
    """`rrti_sgl.serving.opening.open_pair`, with what happens meanwhile in one line of the terminal."""
    shown = console(stderr=True)
    servers = "one SGLang server for both models" if more.get("fused") else "two SGLang servers"
    status = shown.status(f"Starting {servers} ...")
    starts = base_url is None

    def note(text: str) -> None:
        shown.print(text, soft_wrap=True)

    def wait(seconds: float, missing: Sequence[str], logs: Path) -> None:
        status.update(Text(f"Starting {servers}: waiting for {' and '.join(missing)}, {seconds:.0f} s (logs: {logs})"))

    opened = opening.open_pair(base_url, reasoning_url, base, reasoning, flags, watcher=Watcher(note, wait), **more)
    with contextlib.ExitStack() as stack:
        with status if starts else contextlib.nullcontext():
            address = stack.enter_context(opened)
        yield address
