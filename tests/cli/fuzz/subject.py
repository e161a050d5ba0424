"""`rrti` in one process for many inputs: what a console script would do, without the second that Python needs to start.

The process is another than the test's, so that one that dies or never answers is a finding and not the end of the test.
Servers cannot be started in it: what would do so ends with a `ServerLaunchError`.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOM = 12 << 30  # bytes of addresses
SECONDS = 120


@dataclass(frozen=True, slots=True)
class Ending:
    """How a command ended.

    Args:
        code: its exit code; negative: the signal that it died of; None: it did not end.
        shown: what it wrote to both outputs.
        fault: traceback of what nobody foresaw; empty where there is none.
    """

    code: int | None
    shown: bytes
    fault: str = ""


class Subject:
    """The process. It is replaced when it dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, arguments: Sequence[str], folder: Path) -> Ending:
        """One command in a folder."""
        if self.process is None or self.process.poll() is not None:
            here = Path(__file__).resolve().parents[3]
            more = {"PYTHONPATH": str(here), "TMPDIR": str(self.folder), "HF_HUB_OFFLINE": "1", "COLUMNS": "150"}
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.fuzz.subject"],
                cwd=self.folder,
                env=os.environ | more,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(folder), list(arguments)]).encode() + b"\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.process.stdout, selectors.EVENT_READ)
            answered = bool(waiting.select(SECONDS))
        answer = self.process.stdout.readline() if answered else b""
        shown = (self.folder / "shown").read_bytes()
        if answer:
            code, fault = json.loads(answer)
            return Ending(code, shown, fault)
        code = self.close() if answered else None
        self.close()
        return Ending(code, shown)

    def close(self) -> int:
        """End it; returns its exit code, if it had ended by itself."""
        process, self.process = self.process, None
        if process is None:
            return 0
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            code = process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        process.stdout.close()
        return code


def _no_server(*given: Any, **more: Any) -> NoReturn:
    from rrti_sgl.errors import ServerLaunchError

    raise ServerLaunchError("No server is started here.", "This is as far as it goes.")


def _serve() -> None:
    """Answer requests: a line of folder and arguments, a line of exit code and traceback."""
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    from rrti_sgl.cli import failing, main
    from rrti_sgl.serving import opening

    opening.open_pair = _no_server  # type: ignore[assignment]
    own = Path.cwd()
    for line in asked:
        folder, arguments = json.loads(line)
        os.chdir(folder)
        shown = os.open(own / "shown", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        os.dup2(shown, 1)
        os.dup2(shown, 2)
        os.close(shown)
        code = main.run(arguments)
        sys.stdout.flush()
        sys.stderr.flush()
        fault = ""
        for file in own.glob("rrti-fault-*") if code == failing.FAULT else ():
            fault = file.read_text()
            file.unlink()
        answers.write(json.dumps([code, fault]).encode() + b"\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
