"""Start and stop real SGLang servers, and never leave one behind.

A `Server` is a process group of its own. It ends when `stop` is called, when its context is left for whatever reason, and,
through the lifeline pipe that `rrti_sgl.serving.launcher` watches, when this process dies without a chance to clean up.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from rrti_sgl import server_plugin
from rrti_sgl.errors import ServerLaunchError, UsageError
from rrti_sgl.serving.launcher import LIFELINE_VARIABLE
from rrti_sgl.tinypair.bundle import bundled_pair

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 900.0
STOP_GRACE_S = 5.0
LOG_TAIL_LINES = 15

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


def has_gpu() -> bool:
    """Whether a CUDA device is usable from here."""
    import torch

    return bool(torch.cuda.is_available())


def free_port() -> int:
    """A loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One SGLang server, started by us on the loopback interface.

    Args:
        model: hub id or folder of the model.
        name: what to call it in messages and in the name of its log file ("base", "reasoning").
        log_dir: folder for the log file.
        flags: further SGLang flags, passed through; they override ours (`["--tp", "2"]`).
        port: TCP port; 0 takes a free one.
        device: "cpu", "cuda", or "auto" (a GPU if there is one).
        served_name: what the model is called in stores; None takes `model`. For models whose folder may move.
    """

    model: str
    name: str
    log_dir: Path
    flags: Sequence[str] = ()
    port: int = 0
    device: str = "auto"
    served_name: str | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    started_at: float = field(default=0.0, init=False)
    _lifeline: int | None = field(default=None, init=False)

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """File that takes the server's output."""
        return self.log_dir / f"{self.name}.log"

    def command(self, on_cpu: bool) -> list[str]:
        """The command line that becomes the server."""
        chosen: dict[str, str | None] = dict(COMMON_FLAGS) | (dict(CPU_FLAGS) if on_cpu else {})
        for flag in self.flags:
            chosen.pop(flag.partition("=")[0], None)
        own = [part for flag, value in chosen.items() for part in ((flag,) if value is None else (flag, value))]
        model = ["--model-path", self.model, "--port", str(self.port)]
        if self.served_name is not None:
            model += ["--served-model-name", self.served_name]
        return [sys.executable, "-m", "rrti_sgl.serving.launcher", *model, *own, *self.flags]

    def start(self) -> None:
        """Start the process; `wait_until_ready` tells when it answers."""
        if Path(self.model).is_dir():
            # The server reports this name, and clients load the tokenizer from it wherever they run.
            self.model = str(Path(self.model).resolve())
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        on_cpu = self.device == "cpu" or (self.device == "auto" and not has_gpu())
        environment = os.environ | {"SGLANG_RETURN_ORIGINAL_LOGPROB": "1", "TOKENIZERS_PARALLELISM": "false"}
        environment.setdefault(server_plugin.VARIABLE, "1")
        if on_cpu:
            environment |= {"RRTI_STAND_INS": "1", "SGLANG_USE_CPU_ENGINE": "1"}
            environment.setdefault("OMP_NUM_THREADS", "1")
        read_end, self._lifeline = os.pipe()
        environment[LIFELINE_VARIABLE] = str(read_end)
        try:
            with self.log_path.open("wb") as log:
                self.process = subprocess.Popen(
                    self.command(on_cpu),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    pass_fds=(read_end,),
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
                )
        finally:
            os.close(read_end)
        self.started_at = time.monotonic()
        logger.info("started %s server, pid %d, log %s", self.name, self.process.pid, self.log_path)

    def is_ready(self) -> bool:
        """Whether the server answers.

        Raises:
            ServerLaunchError: it died or it outlasted the time limit; the tail of its log is in the message.
        """
        if self.process is None:
            raise UsageError(f"The {self.name} server was not started.", "Call `start` first.")
        if (code := self.process.poll()) is not None:
            raise ServerLaunchError(
                f"The {self.name} server for {self.model!r} died with exit code {code}; its log {self.log_path} ends:\n"
                f"{self.log_tail()}",
                "Mend the cause that the log names, or pass other SGLang flags.",
            )
        if time.monotonic() - self.started_at > START_TIMEOUT_S:
            raise ServerLaunchError(
                f"The {self.name} server for {self.model!r} gave no answer within {START_TIMEOUT_S:.0f} s.",
                f"See its log {self.log_path}.",
            )
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def log_tail(self) -> str:
        """The last lines of the log, for messages."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join(f"  | {line[:200]}" for line in lines[-LOG_TAIL_LINES:])

    def stop(self) -> None:
        """End the server and all its processes; safe to call twice."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self.process is None:
            return
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, signal_number)
            except ProcessLookupError:
                break
            try:
                self.process.wait(STOP_GRACE_S)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()
        self.process = None


def bundled_servers(log_dir: Path, flags: Sequence[str] = (), *, device: str = "auto") -> tuple[Server, Server]:
    """Servers for the bundled pair, under names that do not depend on where the package lies."""
    models = bundled_pair()
    return (
        Server(str(models.base), "base", log_dir, flags, device=device, served_name="bundled/base"),
        Server(str(models.reasoning), "reasoning", log_dir, flags, device=device, served_name="bundled/reasoning"),
    )


@dataclass
class ServedPair:
    """The base and the reasoning model as two servers, for as long as the context lasts.

    Args:
        base: the base model's server.
        reasoning: the reasoning model's server.
        on_wait: called about twice a second while they come up, with the seconds passed and the names still missing.
    """

    base: Server
    reasoning: Server
    on_wait: Callable[[float, list[str]], None] | None = None

    def __enter__(self) -> ServedPair:
        try:
            for server in (self.base, self.reasoning):
                server.start()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_ready(self) -> None:
        start = time.monotonic()
        missing = [self.base, self.reasoning]
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
