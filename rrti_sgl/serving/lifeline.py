"""A started process dies with whoever started it, even by `kill -9`.

`RRTI_LIFELINE_FD` names the read end of a pipe whose write end only the parent holds; it closes with the parent.
The first line that comes through it is the key that the process is to ask for.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time

LIFELINE_VARIABLE = "RRTI_LIFELINE_FD"
GRACE_S = 3.0
_PR_SET_PDEATHSIG = 1


def hold() -> str:
    """In the started process: watch the parent's pipe, if there is one, for as long as this process lives.

    Returns:
        The key that came through the pipe, "" if none did.
    """
    lifeline = os.environ.pop(LIFELINE_VARIABLE, None)
    if lifeline is None:
        return ""
    key = b""
    while (part := os.read(int(lifeline), 1)) not in (b"", b"\n"):
        key += part
    threading.Thread(target=_die_with_parent, args=(int(lifeline),), daemon=True).start()
    return key.decode()


def _die_with_parent(lifeline_fd: int) -> None:
    """Block until the parent's end of the pipe closes, then end this process group: politely first, then for certain."""
    while os.read(lifeline_fd, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def die_with_launcher() -> None:
    """In a process that the started one spawns: end with it from the first moment on.

    SGLang's processes ask for that themselves, after seconds of imports; who is killed before, as Ray kills an actor's
    children with it, would leave them behind.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = multiprocessing.parent_process()
    if parent is not None and os.getppid() != parent.pid:
        os._exit(1)
