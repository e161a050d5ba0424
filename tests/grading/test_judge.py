"""The process that compares answers: its limits, its death, its use from threads, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rrti_sgl.grading.judge import Judge
from rrti_sgl.grading.mathematics import MathGrader
from rrti_sgl.records import ProblemRecord

TOWER = r"9^{9^{9^{9}}} + 1"  # in C code for as long as memory lasts


@pytest.fixture
def judge() -> Iterator[Judge]:
    started = Judge(timeout_s=1.0)
    yield started
    started.close()


def test_nothing_runs_before_the_first_comparison() -> None:
    assert Judge()._worker is None


@pytest.mark.timeout(60)
def test_a_comparison_that_does_not_end_is_given_up_and_the_next_one_is_made(judge: Judge) -> None:
    assert judge.equal("1", "1.0") is True
    assert judge.equal("5", TOWER) is None
    assert judge.equal("1", "2") is False


def test_the_grade_names_what_timed_out(judge: Judge) -> None:
    grade = MathGrader(judge).grade(ProblemRecord("id", "set", "q", "5"), rf"\boxed{{{TOWER}}}")
    assert (grade.answer, grade.correct, grade.method) == (TOWER, False, "boxed, comparison timed out")


def test_a_worker_that_died_is_replaced(judge: Judge) -> None:
    assert judge.equal("1", "1.0")
    assert judge._worker is not None
    os.kill(judge._worker.pid, signal.SIGKILL)
    judge._worker.wait()
    assert judge.equal("2", "3") is None
    assert judge.equal("2", "2.0") is True


def test_many_threads_get_their_own_answers(judge: Judge) -> None:
    judge.timeout_s = 30.0
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(lambda i: judge.equal(str(i), f"{i % 7}.0"), range(60)))
    assert verdicts == [i < 7 for i in range(60)]


def test_unreadable_is_not_equal_and_not_readable(judge: Judge) -> None:
    assert judge.equal("1", r"\frac{") is False
    assert not judge.readable(r"\frac{")
    assert judge.readable("1")


@pytest.mark.timeout(900)  # it would never end where the worker stays
def test_the_worker_ends_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from rrti_sgl.grading.judge import Judge; j = Judge.shared(); j.equal('1', '2');"
        "print(j._worker.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    assert Path(f"/proc/{worker}").exists() or sys.platform != "linux"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while _alive(worker):
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")
