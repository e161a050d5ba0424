"""Killing a writing process loses no acknowledged batch and leaves no part of a sample."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rrti_sgl.db.store import Store

HERE = Path(__file__).parent
WRITE_FOREVER = """
import importlib.util, itertools, sys
spec = importlib.util.spec_from_file_location("builders", sys.argv[2])
builders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builders)
from rrti_sgl.db.store import Store
with Store.open(sys.argv[1]) as store:
    for batch in itertools.count():
        traces = [builders.make_trace(index=3 * batch + i, ce=range(200)) for i in range(3)]
        store.write_samples(traces)
        print(*(trace.sample.sample_id for trace in traces), flush=True)
"""


@pytest.mark.parametrize("batches", [1, 7])
def test_kill_while_writing(path, batches):
    command = [sys.executable, "-c", WRITE_FOREVER, str(path), str(HERE / "conftest.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = {sample for _ in range(batches) for sample in writer.stdout.readline().split()}
        os.kill(writer.pid, signal.SIGKILL)
        # Lines that were on their way when the signal came were acknowledged as well.
        acknowledged |= {sample for line in writer.stdout if line.endswith("\n") for sample in line.split()}
    assert writer.returncode == -signal.SIGKILL
    assert len(acknowledged) >= 3 * batches
    with Store.open(path) as store:
        stored = store.finished_samples("r1")
        assert acknowledged <= stored
        # A commit may succeed without being acknowledged; the batch is there as a whole then.
        assert len(stored - acknowledged) in (0, 3)
        query = "SELECT sample_id, count(*) AS n, max(position) AS last FROM tokens GROUP BY sample_id"
        rows = {row["sample_id"]: (row["n"], row["last"]) for row in store.sql(query).to_pylist()}
        assert rows == dict.fromkeys(stored, (200, 199))
