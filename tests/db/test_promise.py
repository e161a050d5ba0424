"""What the store promises when the disk is full, when two start at once, and when the clock jumps."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rrti_sgl.db import checking, sealing
from rrti_sgl.db.store import Store

BUILDERS = Path(__file__).parent / "conftest.py"
# A process whose files may not grow beyond a limit writes until the system refuses: the same error as a full disk (EFBIG).
FILL = """
import importlib.util, itertools, resource, signal, sys
spec = importlib.util.spec_from_file_location("builders", sys.argv[2])
builders = importlib.util.module_from_spec(spec)
spec.loader.exec_module(builders)
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store.open(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    try:
        for index in itertools.count():
            trace = builders.make_trace(index=index, ce=[0.25 + number / 7 for number in range(500)])
            store.write_samples([trace])
            print(trace.sample.sample_id, flush=True)
    except StoreError as error:
        print("refused:", error, flush=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(path, build):
    with Store.open(path) as store:
        store.add_problems([build["problem"]()])
        store.begin_run(build["run"](tau=None))
    limit = path.stat().st_size + 600_000
    command = [sys.executable, "-c", FILL, str(path), str(BUILDERS), str(limit)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    acknowledged = {line for line in lines if not line.startswith("refused")}
    assert acknowledged
    assert lines[-1].startswith("refused:"), done.stdout[-500:]
    with Store.open(path) as store:
        stored = store.finished_samples("r1")
        assert acknowledged <= stored
        query = "SELECT count(*) AS n FROM tokens GROUP BY sample_id"
        assert {row["n"] for row in store.sql(query).to_pylist()} == {500}
        # With room again, what was refused goes in, and nothing twice.
        assert store.write_samples([build["trace"](index=i, ce=[0.0] * 500) for i in range(len(stored) + 2)]) == 2
    assert [finding for finding in checking.check(path) if finding.check == "samples"] == []


TWICE = """
import sys
from rrti_sgl.db.store import Store
from rrti_sgl.errors import RRTIError
sys.stdin.readline()
try:
    with Store.open(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()
except RRTIError as error:
    print(f"{type(error).__name__} {error.exit_code}", flush=True)
"""


def test_of_two_runs_started_at_once_one_writes_and_one_is_told(path):
    command = [sys.executable, "-c", TWICE, str(path)]
    pair = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in pair:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sorted(process.stdout.readline().strip() for process in pair if process.stdout is not None)
    assert said == ["StoreLockedError 9", "open"]
    for process in pair:
        process.communicate()
    Store.open_readonly(path).close()


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)], ids=["back", "forward"])
def test_a_clock_that_jumps_changes_no_sample(path, build, jump):
    """Ids and order rest on no clock: a run goes on across the jump, is found, sealed and checked."""
    later = datetime.now(UTC) + jump
    with Store.open(path) as store:
        store.add_problems([build["problem"]()])
        store.begin_run(build["run"](created_at=datetime.now(UTC), tau=None))
        assert store.write_samples([build["trace"](index=0, started_at=datetime.now(UTC))]) == 1
        assert store.write_samples([build["trace"](index=i, started_at=later) for i in (0, 1)]) == 1
        store.finish_run("r1", "finished")
    with Store.open(path) as store:
        assert len(store.finished_samples("r1")) == 2
        assert [run.run_id for run in store.find_runs()] == ["r1"]
    assert sealing.seal(path, "r1").n_samples == 2
    assert checking.check(path) == []
