"""Comparisons of mathematics in a process of their own, each with a time limit that the kernel enforces.

`math-verify` bounds its time by a Python signal handler, which works in the main thread only and not while a C function
runs. Here a worker process (`rrti_sgl.grading.judging`) arms the kernel's timer before each comparison and dies by it; the
next comparison starts another. The worker ends with its standard input, so nothing is left behind.

A pool of `multiprocessing`, or of pebble, would not do: a worker that is spawned imports the caller's `__main__` again, so a
script without a guard around its calls fails, and one that is forked takes over locks of the threads that we run.
"""

from __future__ import annotations

import atexit
import json
import logging
import select
import subprocess
import sys
import threading
from typing import Any, ClassVar

from rrti_sgl.errors import RRTIError, need_posix

logger = logging.getLogger(__name__)

TIMEOUT_S = 5.0
_START_S = 120.0  # to import sympy on a busy machine
_GRACE_S = 5.0  # beyond the worker's own limit


class Judge:
    """A lazily started worker process; safe for use from several threads, one comparison at a time.

    Args:
        timeout_s: seconds for one comparison.
    """

    _shared: ClassVar[Judge | None] = None

    def __init__(self, timeout_s: float = TIMEOUT_S) -> None:
        self.timeout_s = timeout_s
        self._worker: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @classmethod
    def shared(cls) -> Judge:
        """The judge that all graders of this process share."""
        if cls._shared is None:
            cls._shared = cls()
            atexit.register(cls._shared.close)
        return cls._shared

    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether two answers mean the same; None: it was not known in time, or memory did not suffice."""
        verdict = self._ask({"gold": gold, "answer": answer})
        return None if verdict is None else bool(verdict)

    def readable(self, gold: str) -> bool:
        """Whether a gold answer can be read as mathematics; one of which that was not known in time may be."""
        return self._ask({"gold": gold}) is not False

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._lock:
            self._end()

    def _ask(self, question: dict[str, Any]) -> Any:
        with self._lock:
            worker = self._worker or self._start()
            assert worker.stdin is not None
            try:
                worker.stdin.write(json.dumps({**question, "timeout_s": self.timeout_s}).encode() + b"\n")
                worker.stdin.flush()
            except BrokenPipeError:
                self._end()
                return None
            answer = self._read(self.timeout_s + _GRACE_S)
            if answer is None:
                logger.info("a comparison was given up after %.0f s: %s", self.timeout_s, question)
                self._end()
            return answer

    def _read(self, timeout_s: float) -> Any:
        """The worker's next line; None where it has died or stays silent."""
        assert self._worker is not None
        assert self._worker.stdout is not None
        ready, _, _ = select.select([self._worker.stdout], [], [], timeout_s)
        line = self._worker.stdout.readline() if ready else b""
        return json.loads(line) if line.endswith(b"\n") else None

    def _start(self) -> subprocess.Popen[bytes]:
        need_posix("The grader math-verify needs")
        self._worker = subprocess.Popen(
            [sys.executable, "-m", "rrti_sgl.grading.judging"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if self._read(_START_S) != "ready":
            self._end()
            raise RRTIError(
                "The process that compares answers does not start.",
                f"See why: {sys.executable} -m rrti_sgl.grading.judging < /dev/null",
            )
        return self._worker

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if worker is None:
            return
        for stream in (worker.stdin, worker.stdout):
            if stream is not None:
                try:
                    stream.close()
                except BrokenPipeError:
                    continue  # it died with a question unread
        worker.kill()
        worker.wait()
