"""What a started process spawns ends with it, though it is killed before SGLang could ask for that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

# As the launcher's: a spawned process imports it first of all, under another name.
SPAWNS = """
import multiprocessing, os, signal
from rrti_sgl.serving import lifeline

if __name__ == "__mp_main__":
    lifeline.die_with_launcher()


def child():
    print(os.getpid(), flush=True)
    signal.pause()


if __name__ == "__main__":
    multiprocessing.get_context("spawn").Process(target=child).start()
    signal.pause()
"""


def test_what_is_spawned_dies_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "launches.py"
    script.write_text(SPAWNS)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        child = psutil.Process(int(launcher.stdout.readline()))
        launcher.kill()
    try:
        _, alive = psutil.wait_procs([child], timeout=60)
        assert not alive
    finally:
        if child.is_running():
            child.kill()
