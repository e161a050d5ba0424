"""The processes of one started server: whether they get on, and which of them is gone."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil

STALLED_S = 180.0
"""So long without progress a start is given up. A loaded machine makes it slow, and never still."""
_WORK_S = 0.5  # of CPU time; what only waits and looks around uses less in that time
_WORKERS = "sglang::"  # SGLang's names for its processes; others come and go


class Family:
    """A process and its descendants, with the log that all of them write.

    Args:
        pid: of the first.
        log: file with their output.
    """

    def __init__(self, pid: int, log: Path) -> None:
        self._pid, self._log = pid, log
        self._workers: dict[psutil.Process, str] = {}
        self._seen: tuple[int, float] = (0, 0.0)
        self._moved_at = time.monotonic()

    def stalled(self) -> bool:
        """Whether for `STALLED_S` neither the log grew nor CPU time was used; to be asked again and again."""
        written, used = self._log.stat().st_size if self._log.exists() else 0, self._cpu_s()
        if written != self._seen[0] or abs(used - self._seen[1]) >= _WORK_S:
            self._seen, self._moved_at = (written, used), time.monotonic()
        return time.monotonic() - self._moved_at > STALLED_S

    def remember(self) -> None:
        """Note who is there, once the server answers."""
        for process in self._members():
            with contextlib.suppress(psutil.Error):
                if (name := process.name()).startswith(_WORKERS):
                    self._workers[process] = name

    def missing(self) -> list[str]:
        """Names of the noted processes that are gone."""
        return [name for process, name in self._workers.items() if not _lives(process)]

    def _members(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            first = psutil.Process(self._pid)
            return [first, *first.children(recursive=True)]
        return []

    def _cpu_s(self) -> float:
        used = 0.0
        for process in self._members():
            with contextlib.suppress(psutil.Error):
                used += sum(process.cpu_times()[:2])
        return used


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    return False
