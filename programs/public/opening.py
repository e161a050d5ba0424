"""How a pair is opened, started here or found at its addresses, and how a store is."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from rrti_sgl import bounds
from rrti_sgl.db.store import Store
from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.public.pair import ModelPair
from rrti_sgl.programs.public.store import TraceStore
from rrti_sgl.programs.public.twins import in_thread
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.values import given_path
from rrti_sgl.serving.flags import words
from rrti_sgl.serving.opening import open_pair
from rrti_sgl.tokens.special_tokens import SpecialTokens

_MEMORY_LIMIT = "4GB"  # of a store that is read: SQL of its own may need what `rrti sql` may


def serve(
    name: str | None = None,
    *,
    base: str | None = None,
    reasoning: str | None = None,
    flags: str = "",
    base_flags: str = "",
    reasoning_flags: str = "",
    device: str = "auto",
    log_dir: str | Path | None = None,
    in_flight: int = 64,
    special_tokens: SpecialTokens = "mapped",
    fused: bool = False,
    replicas: int = 1,
    gates: Sequence[str] = (),
) -> ModelPair:
    """Start both models as SGLang servers, and stop them when the pair is closed.

    Args:
        name: "bundled" is the small pair that comes with the package; it is also what is served if nothing is named.
        base, reasoning: hub ids or folders of two models that share a vocabulary.
        flags: SGLang flags for both servers, as in a shell: `"--tp 2"`.
        base_flags, reasoning_flags: of one server alone; they win.
        device: "cpu", "cuda", or "auto" (a GPU if there is one).
        log_dir: folder for the servers' logs; None takes a temporary one.
        in_flight: samples at once.
        special_tokens: "mapped": those of one meaning meet; or "as-is".
        fused: one server that holds both models, in place of two.
        replicas: servers of each model, or of both; from 2 on SGLang's router stands before them.
        gates: gates of your own that runs on such a server may name, `package.module:Class`.

    Raises:
        UsageError: no such pair, half a pair, or models that do not fit into the memory.
        PairMismatchError: the models do not share a vocabulary.
        ServerLaunchError: a server does not come up; names its log.

    Example:
        >>> with rr.serve("bundled") as pair:
        ...     pair.generate("how many has ann ?", tau=0.5)
        >>> pair = rr.serve(base="Qwen/Qwen3-1.7B-Base", reasoning="Qwen/Qwen3-1.7B")
    """
    if name not in (None, "bundled"):
        raise UsageError(f"There is no pair {name!r}.", "Use rr.serve('bundled'), or rr.serve(base=..., reasoning=...).")
    if name is not None and (base is not None or reasoning is not None):
        raise UsageError(f"Both the pair {name!r} and models were named.", "Leave one out.")
    from rrti_sgl.serving.arrangement import ServingOptions

    options = ServingOptions(
        words("base_flags", base_flags), words("reasoning_flags", reasoning_flags), device, replicas=replicas, gates=gates
    )
    logs = None if log_dir is None else given_path("log_dir", log_dir)
    with contextlib.ExitStack() as stack:
        opened = open_pair(None, None, base, reasoning, flags, log_dir=logs, options=options, fused=fused)
        address = stack.enter_context(opened)
        opening = open_session(
            address.base_url, address.reasoning_url, Concurrency(in_flight), special_tokens=special_tokens
        )
        return ModelPair(opening, stack.pop_all())


def connect(
    base_url: str,
    reasoning_url: str,
    *,
    tokenizer: str | None = None,
    reasoning_tokenizer: str | None = None,
    api_key: str | None = None,
    in_flight: int = 64,
    special_tokens: SpecialTokens = "mapped",
    patience_s: float = bounds.PATIENCE_S,
) -> ModelPair:
    """Connect to two SGLang servers that are running, such as those of `rrti serve`.

    Args:
        base_url, reasoning_url: their addresses; twice the same for a server that holds both models. Addresses of several
            such servers are joined by commas.
        tokenizer: folder or hub id, for servers whose model path is not readable here.
        reasoning_tokenizer: the reasoning model's, where that is another one.
        api_key: bearer token for both servers.
        in_flight: samples at once.
        special_tokens: "mapped": those of one meaning meet; or "as-is".
        patience_s: how long a call waits for a server that answers nothing, because it is started again.

    Raises:
        EndpointError: a server is unreachable or no SGLang server.
        PairMismatchError: the models do not share a vocabulary.

    Example:
        >>> pair = rr.connect("http://127.0.0.1:30000", "http://127.0.0.1:30001")
    """
    return ModelPair(
        open_session(
            base_url,
            reasoning_url,
            Concurrency(in_flight),
            tokenizer=tokenizer,
            reasoning_tokenizer=reasoning_tokenizer,
            api_key=api_key,
            special_tokens=special_tokens,
            limits=TransportLimits(patience_s=patience_s),
        )
    )


def open(path: str | Path, *, read_only: bool = False, sealed: bool = False, snapshot: bool = False) -> TraceStore:
    """Open a trace store; a file that is not there is made.

    Args:
        path: the DuckDB file.
        read_only: open it beside others that read; nothing can be run into it then.
        sealed: read its sealed runs alone, without its file: while another process writes that.
        snapshot: read these and what `rrti db snapshot` has made readable, likewise.

    Raises:
        StoreLockedError: another process writes it.
        StoreVersionError: its schema is older, and the message names the command that upgrades it, or newer.
        StoreError: it is no trace store, or is to be read and not there.

    Example:
        >>> with rr.open("traces.duckdb") as store:
        ...     store.runs
    """
    path = given_path("path", path)
    if read_only or snapshot or sealed:
        opened = Store.open_snapshot if snapshot else Store.open_sealed if sealed else Store.open_readonly
        return TraceStore(opened(path, memory_limit=_MEMORY_LIMIT))
    return TraceStore(Store.open(path))


aserve = in_thread(serve)
aconnect = in_thread(connect)
aopen = in_thread(open)
