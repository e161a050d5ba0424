"""What needs no server works without what POSIX systems alone have; what needs it says so in a line.

No Windows is needed: a Python is told that it is on one, and what Windows lacks is taken away from it. Other libraries are
loaded before, since those that are made for Windows are not here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.programs.running.settings import RunSettings
from tests.db.conftest import make_problem, make_run, make_trace

WINDOWS = """
import asyncio, ctypes, multiprocessing, os, pathlib, shutil, signal, subprocess, sys, tempfile
import aiohttp, alembic.command, duckdb, duckdb_sqlalchemy, filelock, matplotlib.figure, matplotlib.font_manager, pandas
import matplotlib.backends.backend_agg, matplotlib.backends.backend_pdf, matplotlib.backends.backend_svg, psutil
import pyarrow.parquet, pydantic, rich.console, sqlalchemy, tabulate, typer.main, typer.rich_utils
from transformers import AutoConfig, AutoTokenizer

for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty"):
    sys.modules[name] = None
LACKING = {
    os: "chown fchmod fchown fork getegid geteuid getgid getpgid getpgrp getuid killpg mkfifo setpgid setsid O_NOFOLLOW "
    "O_DIRECTORY O_CLOEXEC statvfs sched_getaffinity",
    signal: "SIGALRM SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1 SIGUSR2 alarm pthread_kill setitimer sigwait",
}
for module, names in LACKING.items():
    for name in names.split():
        delattr(module, name)
sys.platform = "win32"

import contextlib, io, json
from rrti_sgl.cli import signals
from rrti_sgl.cli.main import run

signals.install()
ended = {}
for line in sys.argv[1:]:
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
        code = run(line.split())
    ended[line] = [code, told.getvalue()]
print(json.dumps(ended))
"""
WORK = (
    *("sql SELECT(1)", "runs", "samples", "compare base guided", "show SAMPLE", "stats accuracy", "report --out report"),
    *("whatif base --tau 1", "export runs --out runs.csv", "db info", "db upgrade other.duckdb", "db seal base-1"),
    *("db unseal base-1", "grade base --grader last-number --dry-run", "experiment demo --dry-run"),
)
REFUSED = {
    "serve": "SGLang servers need",
    "run base": "SGLang servers need",
    "demo": "SGLang servers need",
    "grade base --grader math-verify --dry-run": "The grader math-verify needs",
    "db vacuum": "`rrti db vacuum` needs",
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """What each command ended with: its code, and what it said to standard error."""
    folder = tmp_path_factory.mktemp("windows")
    with Store.open(folder / "traces.duckdb") as store:
        store.add_problems([make_problem("p0"), make_problem("p1")])
        for program in ("base", "guided"):
            gate = {"gate": "divergence"} if program == "guided" else {"gate": "never", "tau": None}
            of_run = {
                "n_problems": 2,
                "samples_per_problem": 1,
                "config": {"kind": "run", **RunSettings(program).to_dict()},
                **gate,
            }
            store.begin_run(make_run(f"{program}-1", program=program, **of_run))
            traces = [make_trace(f"{program}-1", f"p{i}", 0, [0.5, 2.0], correct=program != "base") for i in range(2)]
            store.write_samples(traces)
            store.finish_run(f"{program}-1", "finished")
    sample = traces[0].sample.sample_id
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-c",
        WINDOWS,
        *(line.replace("SAMPLE", sample) for line in (*WORK, *REFUSED)),
    ]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "COLUMNS": "80"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {line.replace(sample, "SAMPLE"): (code, told) for line, (code, told) in json.loads(done.stdout).items()}


@pytest.mark.parametrize("line", WORK)
def test_what_needs_no_server_works(ended: dict[str, tuple[int, str]], line: str) -> None:
    code, told = ended[line]
    assert code == 0, told


@pytest.mark.parametrize("line", REFUSED)
def test_what_needs_posix_says_so(ended: dict[str, tuple[int, str]], line: str) -> None:
    code, told = ended[line]
    first, *rest = told.splitlines()
    assert first == f"error: {REFUSED[line]} Linux, and this is Windows."
    assert " ".join(" ".join(rest).split()) == "Use the Windows Subsystem for Linux, or a container."
    assert code == 2
