"""Several servers of one model, or of both, behind SGLang's router, as one address.

What the router (sglang-router 0.3.2) does differently from a server, found by trying it, and what is done about it:

- `/server_info` is not there, and `/get_server_info` names only the router: `Endpoint.server_info` asks the servers
  themselves, whose addresses `/workers` gives. They must be reachable from here.
- `/generate` refuses a list of `rid`s and lists of sampling parameters: an `Endpoint` sends each sequence on its own.
- It passes on the fields of `/generate` that it knows and drops the rest: the compact log-probabilities (the nested ones
  are read instead) and `custom_params`, so exact scores (`--score-kind plugin`) are refused before the first token. Of
  OpenAI's routes `/v1/completions` passes `custom_params` on, `/v1/chat/completions` does not. So servers of both models are
  asked themselves by who steers their gates (`connect_fused`), and the router is for other clients.
- Under its policy `cache_aware` requests of token ids, which have no `text`, all went to one of two servers (six prompts
  without a common beginning, one request at a time). Used is `manual`: requests with the same `X-SMG-Routing-Key`, which
  is the sample's, go to the same server and find its cache there.
- `/flush_cache` (POST alone) reaches all servers.
- `/abort_request` is not there. A cancelled call closes its connection, the router closes its own to the server, and that
  ends the work there (the closing was seen; that SGLang then stops was read in its code).
- The router asks for its own `--api-key` and passes the client's on.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.serving import lifeline
from rrti_sgl.serving.keys import own_key
from rrti_sgl.serving.server import Server, free_port
from rrti_sgl.serving.server_process import OwnedProcess

POLICY = "manual"
ASSIGNMENT = "min_group"  # meant to even samples out; ten keys on two servers went 7 to 3
_REQUEST_TIMEOUT_S = 7 * 86_400  # whoever asks says how long a call may take, by the tokens that it asks for


def check_router_installed() -> None:
    """Refuse replicas where there is no router to put before them.

    Raises:
        UsageError: sglang-router is not installed.
    """
    if importlib.util.find_spec("sglang_router") is None:
        raise UsageError(
            "Replicas need SGLang's router, which is not installed here.",
            f"Install it (pip install sglang-router), or leave out {argument('replicas')}.",
        )


@dataclass
class Router(OwnedProcess):
    """The router process before servers that answer already.

    Args:
        name: for messages and the log file.
        log_dir: folder for the log file.
        workers: the servers' addresses.
        port: TCP port; 0 takes a free one.
        key: what it asks of who uses it, and the servers of it.
    """

    name: str
    log_dir: Path
    workers: Sequence[str]
    port: int = 0
    key: str = field(default_factory=own_key, repr=False)
    health_route = "/readiness"  # its /health answers before it has found a server

    @property
    def title(self) -> str:
        """What it is, for messages."""
        return f"router of the {self.name}"

    def command(self) -> list[str]:
        """The command line that becomes the router."""
        flags = ["--host", "127.0.0.1", "--port", str(self.port), "--policy", POLICY, "--assignment-mode", ASSIGNMENT]
        # Retries are ours to make, and a run may keep hundreds of calls open.
        limits = ["--disable-retries", "--disable-circuit-breaker", "--request-timeout-secs", str(_REQUEST_TIMEOUT_S)]
        metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
        return [sys.executable, "-m", __name__, *flags, *limits, *metrics, "--worker-urls", *self.workers]

    def start(self) -> None:
        """Start the process; `is_ready` tells when it answers."""
        self.port = self.port or free_port()
        self.launch(self.command(), os.environ)


@dataclass
class Replicas:
    """Servers of one model behind a router: they start side by side, then the router, whose address is that of all.

    Args:
        name: what to call them ("base", "reasoning", "fused").
        servers: one for each replica.
        port: TCP port of the router; 0 takes a free one.
    """

    name: str
    servers: Sequence[Server]
    port: int = 0
    _router: Router | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Address of the router."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the servers; the router follows once they answer.

        Raises:
            UsageError: sglang-router is not installed.
        """
        check_router_installed()
        for server in self.servers:
            server.start()

    def is_ready(self) -> bool:
        """Whether the router answers; it is started here as soon as every server does."""
        ready = [server.is_ready() for server in self.servers]  # of every one: a dead one is to be told at once
        if not all(ready):
            return False
        if self._router is None:
            first, workers = self.servers[0], [server.url for server in self.servers]
            self._router = Router(f"{self.name}-router", first.log_dir, workers, self.port, first.key)
            self._router.start()
            self.port = self._router.port
        return self._router.is_ready()

    def lost(self) -> str | None:
        """What died of the router or a server; None while all live."""
        parts = [*([self._router] if self._router is not None else []), *self.servers]
        return next((what for part in parts if (what := part.lost()) is not None), None)

    def stop(self) -> None:
        """End the router and the servers; safe to call twice."""
        try:
            if self._router is not None:
                self._router.stop()
                self._router = None
        finally:
            for server in self.servers:
                server.stop()


def main(arguments: list[str]) -> None:
    """Run one router until it is stopped."""
    key = lifeline.hold()
    from sglang_router.launch_router import launch_router, parse_router_args

    router_arguments = parse_router_args(arguments)
    router_arguments.api_key = key or None
    launch_router(router_arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
