"""What the servers of this machine run on, in words: no server tells it of itself."""

from __future__ import annotations

import os
import platform
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

from rrti_sgl.errors import UsageError
from rrti_sgl.serving.gpus import visible_gpus
from rrti_sgl.serving.keys import LOOPBACK

_CPU_INFO = Path("/proc/cpuinfo")


def hardware_of(url: str, device: str | None) -> str | None:
    """The GPUs, or the CPU and its cores, of a server at a loopback address; None of any other, which may be anywhere.

    Args:
        url: its address.
        device: as the server reports it: "cpu", "cuda" or another.
    """
    if urlsplit(url).hostname not in LOOPBACK:
        return None
    if device == "cpu":
        return f"{cpu_name()}, {os.cpu_count()} cores"
    try:
        gpus = Counter(gpu.name for gpu in visible_gpus())
    except UsageError:
        return None
    return ", ".join(f"{count} x {name}" if count > 1 else name for name, count in gpus.items()) or None


def cpu_name() -> str:
    """The processor, as the system names it."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()
