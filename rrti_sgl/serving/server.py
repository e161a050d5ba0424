"""Real SGLang servers, started and stopped by us: one for a model, and the pair."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rrti_sgl import server_plugin
from rrti_sgl.errors import UsageError, argument
from rrti_sgl.serving.keys import own_key
from rrti_sgl.serving.server_process import OwnedProcess, check_port
from rrti_sgl.serving.versions import check_installed
from rrti_sgl.tinypair.bundle import BASE_NAME, bundled_pair

CPU_FLAGS: Mapping[str, str | None] = {
    "--device": "cpu",
    "--attention-backend": "torch_native",
    "--disable-cuda-graph": None,
    "--disable-overlap-schedule": None,
    "--max-total-tokens": "65536",  # SGLang would size the KV cache for the whole memory
    "--max-running-requests": "64",
    "--dtype": "float32",
}
COMMON_FLAGS: Mapping[str, str | None] = {
    "--host": "127.0.0.1",
    "--sleep-on-idle": None,  # two schedulers share the cores: an idle one must not spin
    "--skip-server-warmup": None,
}
DETERMINISTIC = "--enable-deterministic-inference"
_PORTS = range(20_000, 30_000)
_OTHER_KEYS, _PORT = {"--api-key", "--admin-api-key"}, "--port"
TOKEN_IDS_ONLY = ("--skip-tokenizer-init",)
"""For servers that nobody else asks: no text goes in or out, and no process of theirs turns tokens into text."""
STREAMS_WHAT_IS_NEW = ("--incremental-streaming-output",)
"""Likewise: pieces of a stream do not repeat what was said."""


def has_gpu() -> bool:
    """Whether a CUDA device is usable from here.

    Raises:
        UsageError: SGLang or PyTorch, which would use it, is not installed.
    """
    check_installed()
    import torch

    return bool(torch.cuda.is_available())


def free_port() -> int:
    """A loopback TCP port that is free.

    It is below those that systems give to connections (from 32768 on), so that none of these takes it in the seconds until
    a server binds it.

    Raises:
        OSError: all are taken.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(errno.EADDRINUSE, f"no port from {_PORTS[0]} to {_PORTS[-1]} is free")


class Serving(Protocol):
    """What stands for one model of a pair: one server, or several behind a router."""

    name: str
    port: int

    @property
    def url(self) -> str:
        """Its address."""

    def start(self) -> None:
        """Start what is to be started; `is_ready` tells when it answers."""

    def is_ready(self) -> bool:
        """Whether it answers; raises `ServerLaunchError` when it never will."""

    def lost(self) -> str | None:
        """What of it died once it was ready; None while all of it lives."""

    def stop(self) -> None:
        """End all of it; safe to call twice."""


@dataclass
class Server(OwnedProcess):
    """One SGLang server, on the loopback interface.

    Args:
        model: hub id or folder of the model.
        name: what to call it in messages and in the name of its log file ("base", "reasoning").
        log_dir: folder for the log file.
        flags: further SGLang flags, passed through; they override ours (`["--tp", "2"]`).
        port: TCP port; 0 takes a free one.
        device: "cpu", "cuda", or "auto" (a GPU if there is one).
        served_name: what the model is called in stores; None takes `model`. For models whose folder may move.
        planned: flags that were chosen for this server, such as its share of a GPU; `flags` override them.
        gpus: what `CUDA_VISIBLE_DEVICES` is to say, UUIDs or indices; none leaves it as it is.
        key: what it asks of who uses it.
    """

    model: str
    name: str
    log_dir: Path
    flags: Sequence[str] = ()
    port: int = 0
    device: str = "auto"
    served_name: str | None = None
    planned: Mapping[str, str | None] = field(default_factory=dict)
    gpus: Sequence[str] = ()
    key: str = field(default_factory=own_key, repr=False)

    @property
    def title(self) -> str:
        """What it is, for messages."""
        return f"{self.name} server for {self.model!r}"

    def command(self, on_cpu: bool) -> list[str]:
        """The command line that becomes the server."""
        chosen: dict[str, str | None] = dict(COMMON_FLAGS) | (dict(CPU_FLAGS) if on_cpu else {}) | dict(self.planned)
        for flag in self.flags:
            chosen.pop(flag.partition("=")[0], None)
        own = [part for flag, value in chosen.items() for part in ((flag,) if value is None else (flag, value))]
        model = ["--model-path", self.model, "--port", str(self.port)]
        if self.served_name is not None:
            model += ["--served-model-name", self.served_name]
        return [sys.executable, "-m", "rrti_sgl.serving.launcher", *model, *own, *self.flags]

    def environment(self, on_cpu: bool) -> dict[str, str]:
        """The environment of the server's processes."""
        environment = os.environ | {"SGLANG_RETURN_ORIGINAL_LOGPROB": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.setdefault(server_plugin.VARIABLE, "1")
        for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            environment.setdefault(variable, "lo")  # else by the machine's name, which may be an address for all
        if on_cpu:
            environment |= {"RRTI_STAND_INS": "1", "SGLANG_USE_CPU_ENGINE": "1"}
            environment.setdefault("OMP_NUM_THREADS", "1")
        if self.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return environment

    def start(self) -> None:
        """Start the process; `is_ready` tells when it answers.

        Raises:
            UsageError: SGLang is not installed, deterministic inference is asked for on a CPU, or a key or a port is among
                the flags.
            EndpointError: its version is not supported.
        """
        check_installed()
        on_cpu = self.device == "cpu" or (self.device == "auto" and not has_gpu())
        if on_cpu and DETERMINISTIC in self.flags:
            raise UsageError(
                f"{DETERMINISTIC}: none of SGLang's deterministic attention backends runs on a CPU.",
                "Leave it out, or serve on a GPU.",
            )
        named = {flag.partition("=")[0] for flag in self.flags}
        if keys := named & _OTHER_KEYS:
            raise UsageError(
                f"{min(keys)}: servers that are started here have a key of their own, which no command line shows.",
                "Leave it out; `rrti serve` can take a key from a file.",
            )
        if _PORT in named:
            raise UsageError(
                f"{_PORT}: this server would not be found at a port that a flag of SGLang's names.",
                f"Leave it out, or name {argument('base_port')} and {argument('reasoning_port')}.",
            )
        if Path(self.model).is_dir():
            # The server reports this name, and clients load the tokenizer from it wherever they run.
            self.model = str(Path(self.model).resolve())
        self.port = self.port or free_port()
        self.launch(self.command(on_cpu), self.environment(on_cpu))


def bundled_servers(log_dir: Path, flags: Sequence[str] = (), *, device: str = "auto") -> tuple[Server, Server]:
    """Servers for the bundled pair, under names that do not depend on where the package lies."""
    models = bundled_pair()
    return (
        Server(str(models.base), "base", log_dir, flags, device=device, served_name=BASE_NAME),
        Server(str(models.reasoning), "reasoning", log_dir, flags, device=device, served_name="bundled/reasoning"),
    )


@dataclass
class ServedPair:
    """The base and the reasoning model as two servers, for as long as the context lasts.

    Args:
        base: the base model's server.
        reasoning: the reasoning model's server; the same one where it holds both models.
        on_wait: called about twice a second while they come up, with the seconds passed and the names still missing.
        in_turn: start the second only when the first is ready: on a shared GPU each sizes its cache by what is free.
    """

    base: Serving
    reasoning: Serving
    on_wait: Callable[[float, list[str]], None] | None = None
    in_turn: bool = False

    @property
    def servers(self) -> list[Serving]:
        """Each of them once."""
        return [self.base] if self.base is self.reasoning else [self.base, self.reasoning]

    def __enter__(self) -> ServedPair:
        try:
            self._start(self.servers)
        except BaseException:
            self.stop()
            raise
        return self

    def lost(self) -> dict[str, str]:
        """Of each server that is not whole any more: its name, and what died."""
        found = {server.name: server.lost() for server in self.servers}
        return {name: what for name, what in found.items() if what is not None}

    def restart(self, names: Collection[str]) -> None:
        """End these servers and start them again, at their addresses; where they share a GPU, both.

        Raises:
            ServerLaunchError: one does not come up, or something else listens at its port.
        """
        again = [server for server in self.servers if self.in_turn or server.name in names]
        for server in again:
            server.stop()
        self._start(again)

    def _start(self, servers: Sequence[Serving]) -> None:
        for port in filter(None, (server.port for server in servers)):
            check_port(port)  # before a model is loaded at another
        start = time.monotonic()
        for server in servers:
            server.start()
            if self.in_turn:
                self._wait(start, [server])
        self._wait(start, list(servers))

    def _wait(self, start: float, missing: list[Serving]) -> None:
        while missing := [server for server in missing if not server.is_ready()]:
            if self.on_wait is not None:
                self.on_wait(time.monotonic() - start, [server.name for server in missing])
            time.sleep(0.4)

    def stop(self) -> None:
        """End both servers."""
        try:
            self.base.stop()
        finally:
            self.reasoning.stop()

    def __exit__(self, *raised: object) -> None:
        self.stop()
