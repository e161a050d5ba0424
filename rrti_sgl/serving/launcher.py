"""The process that becomes one SGLang server: `python -m rrti_sgl.serving.launcher [SGLang flags]`.

It is SGLang's own `launch_server`, unmodified, with two additions. On a machine without a GPU the inert stand-ins are
installed first (`RRTI_STAND_INS=1`); that happens at import, because the scheduler and detokenizer processes, started by
multiprocessing's "spawn", import this module again. And the server dies with whoever started it: `RRTI_LIFELINE_FD` names
the read end of a pipe whose write end only the parent holds, so that even `kill -9` of the parent leaves no server behind.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

if os.environ.get("RRTI_STAND_INS") == "1":
    from rrti_sgl.serving import stand_ins

    stand_ins.install()

LIFELINE_VARIABLE = "RRTI_LIFELINE_FD"
GRACE_S = 3.0


def _die_with_parent(lifeline_fd: int) -> None:
    """Block until the parent's end of the pipe closes, then end this process group: politely first, then for certain."""
    while os.read(lifeline_fd, 1):
        pass
    os.killpg(os.getpgrp(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Run one server until it is stopped."""
    lifeline = os.environ.pop(LIFELINE_VARIABLE, None)
    if lifeline is not None:
        threading.Thread(target=_die_with_parent, args=(int(lifeline),), daemon=True).start()
    from sglang.srt.plugins import load_plugins

    load_plugins()
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    try:
        run_server(prepare_server_args(arguments))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main(sys.argv[1:])
