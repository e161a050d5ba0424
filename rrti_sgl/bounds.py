"""What a number may be at most where it becomes memory or time: declared here once, held where options are declared.

Each is far beyond what the method needs, and near enough that a slip of the finger, or a file that nobody trusts, is told
so in a line and takes no machine down.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

COUNT = 1_000_000  # tokens, samples, problems, top log-probabilities, tokens of a window
WHOLE = 2**63 - 1  # what a store takes, for seeds
RESAMPLES = 10_000  # one weight each for every problem
RUNS = 10_000  # of one experiment, or of the seeds of one command
GPUS = 1024
IN_FLIGHT = 4096  # samples at once
SECONDS = 1e8
PATIENCE_S = 120.0  # a call waits so long for a server that is started again, if nothing else is said
_KEPT = 512 * 2**20  # beside a query: threads, and text that is made of its rows


@contextlib.contextmanager
def memory(n_bytes: int) -> Iterator[None]:
    """The process may take so much more memory in the block, and some for its own work; beyond it is `MemoryError`.

    DuckDB's own limit does not see single long values, so it is the system that holds this one (Linux; elsewhere nothing).
    """
    if sys.platform != "linux":
        yield
        return
    import resource

    status = Path("/proc/self/status").read_text()
    used = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = used + n_bytes + _KEPT
    if before[1] != resource.RLIM_INFINITY:
        wanted = min(wanted, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
