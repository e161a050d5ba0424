"""What happens to a store outside of it: a full file system, lost files, missing rights, a terminal that goes away."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rrti_sgl.db import checking
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError
from tests.db.test_kill import BUILDERS, RUN, WRITE_FOREVER, rows, start

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SIGNALLED = RUN.replace("    asyncio.run(main(store))", "    signals.run_async(main(store))").replace(
    "import asyncio\n", "import asyncio\nfrom rrti_sgl.cli import signals\nsignals.install()\n"
)
assert SIGNALLED.count("signals.") == 2


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, object]]]:
    """What the run of `RUN` leaves when nothing disturbs it."""
    path = tmp_path_factory.mktemp("undisturbed") / "traces.duckdb"
    finish(path)
    return rows(path)


def finish(path: Path, script: str = RUN) -> None:
    with start(script, path) as run:
        assert run.stdout is not None
        run.stdout.read()
    assert run.returncode == 0


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + ".wal")


def logged_bytes(path: Path) -> int:
    try:
        return wal_of(path).stat().st_size
    except FileNotFoundError:
        return 0


def killed_in_mid_run(path: Path, samples: int) -> None:
    """A run of which so many samples at least are in the log, and none in the file."""
    with start(RUN, path) as run:
        while logged_bytes(path) < samples * 25_000:
            assert run.poll() is None
            os.sched_yield()
        run.kill()


def whole_samples(path: Path) -> int:
    """How many samples are there; each has all its tokens."""
    with Store.open(path) as store:
        query = "SELECT count(*) AS n FROM samples LEFT JOIN tokens USING (run_id, sample_id) GROUP BY sample_id"
        counts = [row["n"] for row in store.sql(query).to_pylist()]
    assert set(counts) <= {200}
    return len(counts)


# -- a full file system ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many MiB, made larger where it is there already."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = []

    def sized(mib: int) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m" + (",remount" if mounted else ""), "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        mounted.append(mib)
        return folder

    yield sized
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("mib", [3, 4, 6])
def test_a_full_file_system_loses_nothing_that_was_acknowledged(small: Callable[[int], Path], mib: int) -> None:
    path = small(mib) / "traces.duckdb"
    command = [sys.executable, "-c", WRITE_FOREVER, str(path), str(BUILDERS)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "StoreError: The store " in done.stderr
    acknowledged = set(done.stdout.split())
    assert acknowledged
    with Store.open_readonly(path) as store:  # while it is full
        assert acknowledged <= store.finished_samples("r1")
    small(64)
    stored = whole_samples(path)
    assert len(acknowledged) <= stored <= len(acknowledged) + 3


def test_a_run_that_filled_the_disk_goes_on_where_there_is_room(
    small: Callable[[int], Path], expected: dict[str, list[dict[str, object]]]
) -> None:
    path = small(3) / "traces.duckdb"
    with start(RUN, path) as run:
        assert run.stdout is not None
        run.stdout.read()
    assert run.returncode == 1
    small(64)
    assert 0 < whole_samples(path) < 120
    finish(path)
    assert rows(path) == expected
    assert checking.check(path) == []


# -- lost files -----------------------------------------------------------------------------------------------------


def test_a_log_that_was_cut_leaves_whole_samples_and_the_run_goes_on(
    tmp_path: Path, expected: dict[str, list[dict[str, object]]]
) -> None:
    origin = tmp_path / "origin" / "traces.duckdb"
    origin.parent.mkdir()
    killed_in_mid_run(origin, 40)
    whole, places = wal_of(origin).stat().st_size, random.Random(20261127)
    refused = []
    for number in range(20):
        path = tmp_path / str(number) / "traces.duckdb"
        shutil.copytree(origin.parent, path.parent)
        os.truncate(wal_of(path), places.randrange(whole))
        try:
            whole_samples(path)
        except StoreError as error:
            refused.append(str(error))
            continue
        finish(path)
        assert rows(path) == expected
    assert refused == []


@pytest.mark.parametrize("lost", ["wal", "store"])
def test_what_was_removed_after_a_kill_is_made_again(
    tmp_path: Path, expected: dict[str, list[dict[str, object]]], lost: str
) -> None:
    path = tmp_path / "traces.duckdb"
    killed_in_mid_run(path, 20)
    (wal_of(path) if lost == "wal" else path).unlink()
    finish(path)
    assert rows(path) == expected


def test_a_store_that_is_removed_in_mid_run_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "traces.duckdb"
    command = [sys.executable, "-c", RUN, str(path), str(BUILDERS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        run.stdout.readline()
        path.unlink()
        _, errors = run.communicate()
    assert run.returncode == 1
    assert "is not there any more" in errors


# -- rights and signals ---------------------------------------------------------------------------------------------

AS_NOBODY = """
import os, sys
import rrti_sgl.cli.db, rrti_sgl.cli.main, rrti_sgl.cli.stats, rrti_sgl.cli.run  # their code may lie where nobody can read
from rrti_sgl.db import checking, maintenance, snapshots
from rrti_sgl.db.store import Store
from rrti_sgl.errors import RRTIError
os.setgid(65534)
os.setuid(65534)
os.environ["HOME"] = sys.argv[1]
for work in (
    lambda: Store.open(sys.argv[1] + "/traces.duckdb"),
    lambda: Store.open(sys.argv[1] + "/new.duckdb"),
    lambda: Store.open(sys.argv[1] + "/closed/traces.duckdb"),
    lambda: maintenance.vacuum(__import__("pathlib").Path(sys.argv[1], "traces.duckdb")),
):
    try:
        work()
        print("done")
    except RRTIError as error:
        print(type(error).__name__, error.exit_code, str(error).count(chr(10)))
with Store.open_readonly(sys.argv[1] + "/traces.duckdb") as store:
    print("read", len(store.finished_samples("r1")))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can be tried by root alone")
def test_a_folder_without_rights_is_refused_in_a_line_and_unchanged(tmp_path: Path) -> None:
    folder = Path("/tmp") / f"rrti-rights-{os.getpid()}"  # pytest's own folders are closed to others
    try:
        (folder / "closed").mkdir(parents=True)
        path = folder / "traces.duckdb"
        finish(path)
        shutil.copy(path, folder / "closed")
        folder.chmod(0o555)
        path.chmod(0o444)
        (folder / "closed").chmod(0o000)
        before = path.read_bytes()
        done = subprocess.run([sys.executable, "-c", AS_NOBODY, str(folder)], capture_output=True, text=True)
        assert done.stdout.split("\n") == ["StoreError 8 0"] * 4 + ["read 120", ""], done.stdout + done.stderr
        assert path.read_bytes() == before
        assert sorted(each.name for each in folder.iterdir()) == ["closed", "traces.duckdb"]
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("nohup", [False, True])
def test_a_terminal_that_goes_away_ends_a_run_in_order(
    tmp_path: Path, expected: dict[str, list[dict[str, object]]], nohup: bool
) -> None:
    path = tmp_path / "traces.duckdb"
    command = [sys.executable, "-c", SIGNALLED, str(path), str(BUILDERS)]
    with subprocess.Popen(
        ["nohup", *command] if nohup else command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # the tests may run under nohup themselves
    ) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "writing\n"
        run.send_signal(signal.SIGHUP)
        _, errors = run.communicate()
    if nohup:
        assert run.returncode == 0, errors
    else:
        assert "Stopped: 1" in errors
        assert not wal_of(path).exists()  # closed in order
        assert whole_samples(path) < 120
        finish(path)
    assert rows(path) == expected
