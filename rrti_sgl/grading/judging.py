"""The process that compares mathematics: `python -m rrti_sgl.grading.judging`, one JSON object a line in, one value out.

`{"gold": ..., "answer": ...}` is answered with true or false, `{"gold": ...}` with whether it can be read at all. The
kernel ends the process when a comparison takes longer than its `timeout_s`, even inside a C function; memory is bounded,
because a tower of powers would take it all.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import signal
import sys

from rrti_sgl.grading.equality import equal, readable

_MEMORY_BYTES = 4 << 30  # of address space


def main() -> None:
    """Answer questions until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and its end ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # some systems do not bound address space
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    logging.disable()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with contextlib.redirect_stdout(sys.stderr):  # nothing but answers goes where answers go
        print('"ready"', file=answers, flush=True)
        for line in sys.stdin:
            question = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, question.pop("timeout_s"))
            try:
                verdict: bool | None = equal(**question) if "answer" in question else readable(**question)
            except (MemoryError, RecursionError):
                verdict = None
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            print(json.dumps(verdict), file=answers, flush=True)


if __name__ == "__main__":
    main()
