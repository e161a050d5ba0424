"""A server process that is ours: a process group with a log, which never stays behind.

It ends when `stop` is called and, through the pipe that `rrti_sgl.serving.lifeline` watches in it, when this process dies
without a chance to clean up.
"""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from rrti_sgl.errors import ServerLaunchError, UsageError, argument
from rrti_sgl.serving import keys
from rrti_sgl.serving.family import STALLED_S, Family
from rrti_sgl.serving.lifeline import LIFELINE_VARIABLE

logger = logging.getLogger(__name__)
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows what listens on loopback

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
    _family: Family | None = None
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
        """Start the process; `is_ready` tells when it answers.

        Raises:
            ServerLaunchError: something else listens at the port: it would be taken for this server.
            UsageError: the log or the key cannot be written.
        """
        check_port(self.port)
        try:
            self.log_dir.mkdir(parents=True, exist_ok=True)
            log = self.log_path.open("wb" if self._family is None else "ab")  # one that is started again goes on
        except OSError as error:
            raise UsageError(
                f"The log {self.log_path} cannot be written ({error.strerror}).",
                f"Name another folder: {argument('log_dir')}.",
            ) from error
        with log:
            keys.keep(keys.key_path(self.port), self.key)
            read_end, self._lifeline = os.pipe()
            os.write(self._lifeline, f"{self.key}\n".encode())
            try:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**environment, **_no_proxy(environment), LIFELINE_VARIABLE: str(read_end)},
                    pass_fds=(read_end,),
                    start_new_session=True,  # a Ctrl-C in the terminal is ours to handle
                )
            finally:
                os.close(read_end)
        self._family = Family(self.process.pid, self.log_path)
        logger.info("started %s, pid %d, log %s", self.title, self.process.pid, self.log_path)

    def is_ready(self) -> bool:
        """Whether the server answers.

        Raises:
            ServerLaunchError: it died, or its start makes no progress; the tail of its log is in the message.
        """
        if self.process is None or self._family is None:
            raise UsageError(f"The {self.title} was not started.", "Call `start` first.")
        if (code := self.process.poll()) is not None:
            raise ServerLaunchError(
                f"The {self.title} died with exit code {code}; its log {self.log_path} ends:\n{self.log_tail()}",
                "Mend the cause that the log names, or pass other flags.",
            )
        if self._family.stalled():
            raise ServerLaunchError(
                f"The {self.title} gives no answer, and for {STALLED_S:.0f} s it wrote no log and used no CPU time. "
                f"The log {self.log_path} ends:\n{self.log_tail()}",
                "Mend the cause that the log names, and start it again.",
            )
        try:
            with _DIRECT.open(f"{self.url}{self.health_route}", timeout=2) as answer:
                ready = bool(answer.status == 200)
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except (OSError, http.client.HTTPException):
            return False
        if ready:
            self._family.remember()
        return ready

    def lost(self) -> str | None:
        """What died of a server that was ready, with the tail of its log; None while all of it lives."""
        if self.process is None or self._family is None:
            return None
        if (code := self.process.poll()) is not None:
            what = f"The {self.title} died with exit code {code}"
        elif missing := self._family.missing():
            what = f"The {self.title} lost its process {' and '.join(missing)}"
        else:
            return None
        return f"{what}; its log {self.log_path} ends:\n{self.log_tail()}"

    def log_tail(self) -> str:
        """The last lines of the log, for messages."""
        lines = self.log_path.read_text(errors="replace").splitlines() if self.log_path.exists() else []
        return "\n".join(f"  | {line[:200]}" for line in lines[-LOG_TAIL_LINES:])

    def stop(self) -> None:
        """End the server and all its processes; safe to call twice."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
            keys.forget(self.port)
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


def check_port(port: int) -> None:
    """Refuse a loopback port that something listens at.

    Raises:
        ServerLaunchError: names it.
    """
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError as error:
        message = f"No server can be started at port {port} ({os.strerror(error.errno or 0)})."
        raise ServerLaunchError(message, "Name another port, or end what listens there.") from error


def _no_proxy(environment: Mapping[str, str]) -> dict[str, str]:
    """What keeps a server's calls to itself from a proxy that the environment names."""
    names = ("no_proxy", "NO_PROXY")
    return {name: ",".join(filter(None, (environment.get(name), "127.0.0.1,localhost"))) for name in names}
