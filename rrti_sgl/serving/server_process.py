"""A server process that is ours: a process group with a log, which never stays behind.

It ends when `stop` is called and, through the pipe that `rrti_sgl.serving.lifeline` watches in it, when this process dies
without a chance to clean up.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrti_sgl.errors import ServerLaunchError, UsageError
from rrti_sgl.serving import keys
from rrti_sgl.serving.lifeline import LIFELINE_VARIABLE

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 900.0
STOP_GRACE_S = 5.0
LOG_TAIL_LINES = 15


class OwnedProcess:
    """An HTTP server on the loopback interface, started and ended by us.

    A class that derives from it says its `name` in messages and log files ("base"), the folder for the log file, the TCP
    port, and the key that is to be asked for (`rrti_sgl.serving.keys`).
    """

    name: str
    log_dir: Path
    port: int
    key: str
    health_route = "/health"
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    _lifeline: int | None = None

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_path(self) -> Path:
        """File that takes the server's output."""
        return self.log_dir / f"{self.name}.log"

    @property
    def title(self) -> str:
        """What it is, for messages."""
        return f"{self.name} server"

    def launch(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start the process; `is_ready` tells when it answers."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        keys.keep(keys.key_path(self.port), self.key)
        read_end, self._lifeline = os.pipe()
        os.write(self._lifeline, f"{self.key}\n".encode())
        try:
            with self.log_path.open("wb") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**environment, LIFELINE_VARIABLE: str(read_end)},
                    pass_fds=(read_end,),
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
                )
        finally:
            os.close(read_end)
        self.started_at = time.monotonic()
        logger.info("started %s, pid %d, log %s", self.title, self.process.pid, self.log_path)

    def is_ready(self) -> bool:
        """Whether the server answers.

        Raises:
            ServerLaunchError: it died or it outlasted the time limit; the tail of its log is in the message.
        """
        if self.process is None:
            raise UsageError(f"The {self.title} was not started.", "Call `start` first.")
        if (code := self.process.poll()) is not None:
            raise ServerLaunchError(
                f"The {self.title} died with exit code {code}; its log {self.log_path} ends:\n{self.log_tail()}",
                "Mend the cause that the log names, or pass other flags.",
            )
        if time.monotonic() - self.started_at > START_TIMEOUT_S:
            raise ServerLaunchError(
                f"The {self.title} gave no answer within {START_TIMEOUT_S:.0f} s.", f"See its log {self.log_path}."
            )
        try:
            with urllib.request.urlopen(f"{self.url}{self.health_route}", timeout=2) as answer:
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
        keys.forget(self.port)
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
