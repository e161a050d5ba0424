"""Speed and memory of every statistic and of the whole report on a synthetic store, beside polars and pandas, in one run.

Each repetition is a process of its own on two cores, the engines in turn: the store through `run_query`, polars and pandas
on the Parquet export of the same rows, and `make_report` with `write_report`. The three must find the same numbers (to
1e-9), else nothing is timed. Point estimates are compared: `run_query` also looks up what the runs have and refuses NaN, the
data-frame libraries do not, and only the store has intervals, timed apart. The store's peak memory is with intervals. Rows
go to build/bench.json, medians of the repetitions; CPU seconds tell the work where other processes share the cores.

    python benchmarks/store_statistics.py                      # 10 million tokens
    python benchmarks/store_statistics.py --tokens 1000000
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from compared_numbers import COMPARED, Numbers, rows_of
from synthetic_store import BUILD, build

RESULTS = Path("build") / "bench.json"
CORES = 2
LIBRARIES = ("polars", "pandas")
SCORED, GATED = ["diagnose", "guided-low", "guided-high"], ["guided-low", "guided-high"]
# Runs and parameters where the default, every run that has what the statistic needs, is not what is to be timed.
ASKED: dict[str, dict[str, Any]] = {
    **{name: {"run": SCORED} for name in COMPARED},
    **{name: {"run": SCORED, "metric": "ce"} for name in ("sparsity", "position", "uncertainty", "planning", "failure")},
    "takeovers": {"run": GATED},
    "flips": {"run": ["base", "guided-high"]},
    "ablation": {"run": ["base", "guided-high", "random", "reasoning"]},
}


@dataclass(frozen=True)
class Row:
    """One statistic by one engine; `of_polars` is its time over that of polars for the same numbers, in this run."""

    suite: str
    tokens: int
    statistic: str
    engine: str
    seconds: float | None
    cpu_seconds: float | None
    interval_seconds: float | None
    peak_rss_mib: float | None
    of_polars: float | None
    cpu_of_polars: float | None
    repetitions: int
    remark: str = ""


# -- in the measured process ----------------------------------------------------------------------------------------


def measured(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds, CPU seconds of all threads, and the result."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}, result


def measure_store(folder: Path, name: str) -> dict[str, Any]:
    """Point estimates alone, and with their intervals, through `run_query`."""
    from rrti_sgl.db.queries import run_query
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import StoreError, UsageError

    asked = ASKED.get(name, {})
    with Store.open_readonly(folder / "traces.duckdb") as store:
        try:
            times, table = measured(lambda: run_query(store, name, **asked, resamples=0))
        except (StoreError, UsageError) as error:
            return {"remark": str(error)}
        whole = measured(lambda: run_query(store, name, **asked))[0]["seconds"]
    numbers = rows_of(name, table.to_pylist()) if name in COMPARED else {}
    return {**times, "whole": whole, "peak": peak_rss_mib(), "numbers": plain(numbers)}


def measure_frames(folder: Path, name: str, engine: str) -> dict[str, Any]:
    """The same numbers by a data-frame library."""
    library = importlib.import_module(f"{engine}_statistics")
    times, numbers = measured(lambda: getattr(library, name)(folder, ASKED[name]["run"]))
    return {**times, "peak": peak_rss_mib(), "numbers": plain(numbers)}


def measure_report(folder: Path) -> dict[str, Any]:
    """The whole report of all runs, made and written once."""
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import StoreError
    from rrti_sgl.programs.reporting.report import make_report, write_report

    with tempfile.TemporaryDirectory() as out, Store.open_readonly(folder / "traces.duckdb") as store:
        try:
            times, _ = measured(lambda: write_report(make_report(store), Path(out)))
        except StoreError as error:
            return {"remark": str(error)}
    return {**times, "peak": peak_rss_mib()}


def peak_rss_mib() -> float:
    """Most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def plain(numbers: Numbers) -> list[Any]:
    """Named numbers as JSON can hold them."""
    return [[list(key), float(value)] for key, value in numbers.items()]


# -- in the measuring process ---------------------------------------------------------------------------------------


def run_child(folder: Path, name: str, engine: str) -> dict[str, Any]:
    """One measurement in a process of its own, on two cores.

    Raises:
        RuntimeError: the process failed.
    """
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    command = [sys.executable, __file__, "--child", engine, name, str(folder)]
    environment = os.environ | {name: str(CORES) for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS")}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    if done.returncode:
        raise RuntimeError(f"{engine} {name} failed with exit code {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def check_equal(name: str, ours: list[Any], theirs: list[Any], engine: str) -> None:
    """Refuse to compare the times of different answers.

    Raises:
        RuntimeError: a number that both have differs, or most of them have no counterpart.
    """
    expected = {json.dumps(key): value for key, value in theirs}
    shared = {key: value for key, value in ((json.dumps(k), v) for k, v in ours) if key in expected}
    if len(shared) < 0.5 * len(expected):
        raise RuntimeError(f"{name}: only {len(shared)} of the {len(expected)} numbers of {engine} are in our table")
    for key, value in shared.items():
        if not math.isclose(value, expected[key], rel_tol=1e-9, abs_tol=1e-12):
            raise RuntimeError(f"{name} {key}: {value} here, {expected[key]} by {engine}")


def measure_statistic(folder: Path, tokens: int, name: str, repetitions: int, *, alone: bool = False) -> list[Row]:
    """One statistic by every engine that has it, or by the store alone."""
    engines = ("store", *(LIBRARIES if name in COMPARED and not alone else ()))
    found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in engines}
    for _ in range(repetitions):
        for engine in engines:
            found[engine].append(run_child(folder, name, engine))
            if "remark" in found[engine][0]:
                return [unmade_row(tokens, name, found[engine][0]["remark"])]
            if engine != "store":
                check_equal(name, found["store"][-1]["numbers"], found[engine][-1]["numbers"], engine)
    return [row_of(tokens, name, engine, found) for engine in engines]


def measure_whole_report(folder: Path, tokens: int) -> list[Row]:
    """The report of all runs, once."""
    found = run_child(folder, "report", "report")
    if "remark" in found:
        return [unmade_row(tokens, "report", found["remark"])]
    return [row_of(tokens, "report", "store", {"store": [found]})]


def unmade_row(tokens: int, name: str, reason: str) -> Row:
    """What could not be measured, and why."""
    print(f"  {name:<12} not made: {reason}", file=sys.stderr)
    return Row("statistics", tokens, name, "store", None, None, None, None, None, None, 0, reason)


def row_of(tokens: int, name: str, engine: str, found: dict[str, list[dict[str, Any]]]) -> Row:
    """The medians of an engine's repetitions; says what it took on standard error."""

    def middle(column: str, of: str = engine) -> float:
        return median(repetition[column] for repetition in found[of])

    seconds, cpu = middle("seconds"), middle("cpu")
    whole = [repetition["whole"] - repetition["seconds"] for repetition in found[engine] if repetition.get("whole")]
    ratios = (seconds / middle("seconds", "polars"), cpu / middle("cpu", "polars")) if "polars" in found else (None, None)
    print(f"  {name:<12} {engine:<7} {seconds:8.2f} s {cpu:8.2f} CPU s {middle('peak'):7.0f} MiB", file=sys.stderr)
    intervals = max(0.0, median(whole)) if whole else None
    times = (seconds, cpu, intervals, middle("peak"))
    return Row("statistics", tokens, name, engine, *times, *ratios, len(found[engine]))


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/performance.md."""
    lines = [
        "| statistic | s ours / polars / pandas | CPU s | intervals s | of polars | of polars, CPU | peak MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row.statistic for row in rows):
        of_name = [row for row in rows if row.statistic == name]
        ours = of_name[0]
        if ours.seconds is None:
            lines.append(f"| {name} | not made: {ours.remark} |  |  |  |  |  |")
            continue
        cells = [" / ".join(f"{getattr(row, column):.2f}" for row in of_name) for column in ("seconds", "cpu_seconds")]
        cells += [
            "" if value is None else f"{value:.2f}" for value in (ours.interval_seconds, ours.of_polars, ours.cpu_of_polars)
        ]
        cells.append(" / ".join(f"{row.peak_rss_mib:.0f}" for row in of_name))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Replace this suite's rows in the file, keep those of others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [row for row in json.loads(path.read_text()) if row["suite"] != "statistics"] if path.exists() else []
    path.write_text(json.dumps([*kept, *(asdict(row) for row in rows)], indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="statistics, or report")
    parser.add_argument("--within", type=Path, default=BUILD, help="folder of the stores that are made")
    parser.add_argument("--alone", action="store_true", help="no data-frame libraries, for stores beyond memory")
    parser.add_argument("--child", nargs=3, metavar=("ENGINE", "STATISTIC", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        engine, name, folder = arguments.child[0], arguments.child[1], Path(arguments.child[2])
        if engine == "store":
            found = measure_store(folder, name)
        elif engine == "report":
            found = measure_report(folder)
        else:
            found = measure_frames(folder, name, engine)
        print(json.dumps(found))
        return
    from rrti_sgl.db.queries import QUERIES

    folder = build(arguments.tokens, arguments.within, parquet=not arguments.alone)
    rows: list[Row] = []
    for name in arguments.only or [*QUERIES, "report"]:
        if name == "report":
            rows += measure_whole_report(folder, arguments.tokens)
        else:
            rows += measure_statistic(folder, arguments.tokens, name, arguments.repetitions, alone=arguments.alone)
        if not arguments.only:
            write_rows(rows, RESULTS)
    print(markdown(rows))


if __name__ == "__main__":
    main()
