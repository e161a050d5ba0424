"""Memory between the sections of a report: what they freed goes back to the system, so that it does not add up."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa


def give_back() -> None:
    """Give back what the allocators of Arrow and of the C library hold for later; nothing where there is no such call.

    Arrays of many sizes leave gaps that later ones do not fill: over ten million tokens those come to a tenth of the peak.
    """
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of the GNU C library
        if trim is not None:
            trim(0)
