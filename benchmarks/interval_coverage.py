"""How often the intervals of every statistic hold the number they are of: repeated draws from a known population.

A store gets a population of problems and runs on problems that are drawn from it (`drawn_population.py`). Every statistic is
made of each by `run_query`, and gates are tried on each by `what_if`, as users do it; the intervals are compared with the
number of the whole population: for a gate, what the same thresholds do there. The table goes to `db/analysis/coverage.csv`,
from where `rrti stats --definitions` prints it.

    make coverage
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from drawn_population import OF_SEEDS, TAU, WHOLE, Draw, Population, draws_of, run_of

from rrti_sgl.db.definitions import coverage_table
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.db.scored_tokens import read_scored_tokens
from rrti_sgl.db.store import Store
from rrti_sgl.programs.stored.whatif import WhatIfOptions, what_if
from rrti_sgl.science.regating import Regating

RESULTS = Path(__file__).resolve().parents[1] / "db" / "analysis" / "coverage.csv"
DRAWS = {100: 300, 30: 200}  # by the number of problems
STORED = 50
LOWEST, HIGHEST, MANY = 0.92, 0.985, 100
# What tells the rows of a statistic apart, beside its run and, in position and calibration, a place.
KEYS = ("part", "program", "statistic", "level", "metric", "metric_a", "metric_b", "p", "label", "tokens", "predictor")
KEYS += ("top_k", "quantity", "decile", "k", "within", "spike_ratio", "unit", "tag")
PARAMETERS: dict[str, dict[str, Any]] = {
    "sparsity": {"metric": "ce", "grid": [0.01, 0.08, 0.5]},
    "position": {"metric": "ce", "p": 0.05, "bins": 10},
    "planning": {"metric": "ce", "p": 0.05, "words": 3},
    "uncertainty": {"metric": "ce", "ps": [0.01, 0.05, 0.08, 0.1]},
    "planted": {"ps": [0.05]},
    "failure": {"metric": "ce", "top_k": [10]},
    "takeovers": {"bins": 5, "top": 3},
    "transfer": {"spike_ratios": [0.04, 0.08]},
}
OF_RUNS = dict.fromkeys(("sparsity", "position", "uncertainty", "planning", "failure", "metrics", "planted"), ("diagnose",))
OF_RUNS |= {"takeovers": ("guided",), "calibration": ("diagnose", "guided"), "cost": ("guided",)}
OF_RUNS |= {"reallocation": ("guided",)}
OF_CONTINUATIONS = ("causality", "pivotal")
FEWER = {"reallocation": 100, "causality": 200, "pivotal": 200}  # draws of each number of problems, of what takes long
# Gates of `what_if`, by part: thresholds that are given, and one that is taken from the very tokens that are gated.
GATES = {"given": WhatIfOptions(tau=TAU), "lambda": WhatIfOptions(tau=TAU, use_lambda=True, lambda_=8.0)}
GATES |= {"calibrated": WhatIfOptions(spike_ratios=(0.08,))}
WHATIF = "whatif"
ALL = (*QUERIES, WHATIF)
ROUNDING = 1e-9


@dataclass
class Tally:
    """What became of the intervals of one number: misses on either side, estimates at 0 or 1, and how many there were."""

    n: int = 0
    below: int = 0
    above: int = 0
    at_an_end: int = 0

    def add(self, wanted: float, estimate: float, low: float, high: float) -> None:
        """Count one interval."""
        self.n += 1
        self.below += wanted < low - ROUNDING
        self.above += wanted > high + ROUNDING
        self.at_an_end += estimate in (0.0, 1.0)

    @property
    def coverage(self) -> float:
        """Share of the intervals that hold the number."""
        return 1 - (self.below + self.above) / self.n

    @property
    def is_rare(self) -> bool:
        """So few events that estimates at an end occur: a share of few is covered more often than it need be."""
        return self.at_an_end > 0.01 * self.n


@dataclass
class Row:
    """The numbers of one column in one part of a statistic, under draws of so many problems.

    Attributes:
        draws: intervals of a number, the fewest.
        coverages: of the numbers that are not rare.
        of_rare: of those that are.
    """

    statistic: str
    part: str
    column: str
    problems: int
    draws: int
    coverages: list[float] = field(default_factory=list)
    of_rare: list[float] = field(default_factory=list)


def tables(
    store: Store, draws: Sequence[Draw], resamples: int, names: Collection[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every row of the statistics of some draws, with the statistic's name."""
    for name, given, is_wanted in _asked(draws):
        if name in names:
            found = run_query(store, name, resamples=resamples, **given, **PARAMETERS.get(name, {}))
            yield from ((name, row) for row in found.to_pylist() if is_wanted(row))


def _asked(draws: Sequence[Draw]) -> Iterator[tuple[str, Mapping[str, Any], Callable[[Mapping[str, Any]], bool]]]:
    """Statistics, the runs that each is made of, and which of its rows count."""
    for name, programs in OF_RUNS.items():
        yield name, {"run": [run_of(program, draw.name) for program in programs for draw in draws]}, _every
    yield from ((name, {}, _every) for name in OF_CONTINUATIONS)
    for draw in draws:
        base, guided, reasoning = _of_programs(draw)
        for name, runs in (
            ("flips", [base, guided]),
            ("budget", [base, guided]),
            ("ablation", [base, guided, reasoning]),
        ):
            yield name, {"run": runs}, _every
    # Of two problem sets: their average, and thresholds.
    for two in zip(draws[::2], draws[1::2], strict=True) if len(draws) > 1 else [draws]:
        runs = [run_of("diagnose", draw.name) for draw in two]
        yield "transfer", {"run": runs}, lambda row: len(two) == 1 or row["from_run_id"] != row["run_id"]  # noqa: B023
        yield "accuracy", _compared(*zip(*map(_of_programs, two), strict=True)), _every
    for draw in draws:
        seeds = ([run_of(program, draw.name, seed) for seed in (0, 1)] for program in OF_SEEDS)
        yield "accuracy", _compared(*seeds), lambda row: row["part"] == "seeds"


def _every(row: Mapping[str, Any]) -> bool:
    return True


def _of_programs(draw: Draw) -> list[str]:
    return [run_of(program, draw.name) for program in OF_SEEDS]


def _compared(base: Sequence[str], guided: Sequence[str], reasoning: Sequence[str]) -> Mapping[str, Any]:
    return {"run": [*base, *guided, *reasoning], "base": [*base], "reasoning": [*reasoning]}


def key_of(name: str, row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a row from the others of its statistic."""
    places = (row.get("u_low"), row.get("u_high"), row.get("share") if name == "calibration" else None)
    return (name, *(row.get(key) for key in KEYS), *places)


def measure(folder: Path, draws: Mapping[int, int] | None = None, names: Collection[str] = ALL) -> list[Row]:
    """The table: for each part and column of each statistic, how often intervals hold their number.

    Args:
        folder: where the store is made.
        draws: how many there are by their number of problems; None: `DRAWS`.
        names: of the statistics.
    """
    population = Population()
    with _stored(folder, population, [WHOLE], names) as store:
        truth = {key_of(name, row): row for name, row in tables(store, [WHOLE], 0, names)}
        run = store.get_run(run_of("diagnose", WHOLE.name))
        gated = Regating(read_scored_tokens(store, run, "ce", "ce").tokens)
    rows: list[Row] = []
    for n, repetitions in (draws or DRAWS).items():
        drawn = draws_of(n, repetitions, np.random.default_rng([5, n]))
        tallies: dict[tuple[Any, ...], Tally] = defaultdict(Tally)
        for first in range(0, repetitions, STORED):
            these = drawn[first : first + STORED]
            asked = [name for name in names if first < FEWER.get(name, repetitions)]
            if not asked:
                break
            with _stored(folder, population, these, asked) as store:
                for name, row in tables(store, these, 1000, asked):
                    _count(tallies, truth, name, row)
                for draw in these if WHATIF in asked else ():
                    _count_gates(tallies, gated, store, draw)
        rows += _rows(n, repetitions, tallies)
    return sorted(rows, key=lambda row: ALL.index(row.statistic))


@contextmanager
def _stored(folder: Path, population: Population, draws: Sequence[Draw], names: Collection[str]) -> Iterator[Store]:
    """A store that holds the runs of these draws alone, as these statistics need them: a query passes over all its runs."""
    path = folder / f"{draws[0].name}.duckdb"
    with Store.open(path) as store:
        population.write(store, draws)
        if set(OF_CONTINUATIONS) & {*names}:
            population.continue_guided(store, draws)
        yield store
    path.unlink()


def _count(
    tallies: dict[tuple[Any, ...], Tally], truth: Mapping[Any, Mapping[str, Any]], name: str, row: Mapping[str, Any]
) -> None:
    """Count the intervals of a row: by part, column and key."""
    part = row.get("part") or ""
    # The average over two problem sets of one population is of the same number.
    key = key_of(name, {**row, "part": "run"} if part == "average" else row)
    for column in (each.removesuffix("_low") for each in row if each.endswith("_low")):
        if column in row and row[f"{column}_low"] is not None and key in truth:  # not the least score of a decile
            ends = row[f"{column}_low"], row[f"{column}_high"]
            tallies[part, column, *key].add(truth[key][column], row[column], *ends)


def _count_gates(tallies: dict[tuple[Any, ...], Tally], whole: Regating, store: Store, draw: Draw) -> None:
    """Count the intervals of gates on the diagnosis of a draw; on the whole population they have the same thresholds."""
    for part, options in GATES.items():
        found = what_if(store, run_of("diagnose", draw.name), options)
        [row], [trial] = found.rows, found.trials
        there = whole.outcome(trial.outcome.rule)
        for column, wanted in (("budget", there.budget), ("coverage", there.coverage)):
            assert wanted is not None
            ends = row[f"{column}_low"], row[f"{column}_high"]
            tallies[part, column, WHATIF].add(wanted.estimate, row[column], *ends)


def _rows(problems: int, repetitions: int, tallies: Mapping[tuple[Any, ...], Tally]) -> list[Row]:
    """A row for each part and column, of the numbers that have intervals in half of the draws (averages: of the pairs)."""
    rows: dict[tuple[str, str, str], Row] = {}
    for (part, column, name, *_), tally in tallies.items():
        if tally.n >= min(repetitions, FEWER.get(name, repetitions)) / (4 if part == "average" else 2):
            row = rows.setdefault((name, part, column), Row(name, part, column, problems, tally.n))
            row.draws = min(row.draws, tally.n)
            (row.of_rare if tally.is_rare else row.coverages).append(tally.coverage)
    return list(rows.values())


def failures(rows: Sequence[Row]) -> list[str]:
    """What is outside of the limits by more than twice the error of so many draws.

    The upper limit is not for rare numbers nor for few problems: the interval of a count of few is wider than it need be.
    """
    found = []
    for row in rows:
        low, high = (
            limit + sign * 2 * math.sqrt(limit * (1 - limit) / row.draws) for limit, sign in ((LOWEST, -1), (HIGHEST, 1))
        )
        wrong = [each for each in (*row.coverages, *row.of_rare) if each < low]
        wrong += [each for each in row.coverages if each > high and row.problems >= MANY]
        about = f"{row.statistic} {row.part} {row.column}, {row.problems} problems"
        found += [f"{about}: {each:.3f}" for each in wrong]
    return found


def as_csv(rows: Sequence[Row]) -> list[dict[str, str]]:
    """The lines of the file."""
    lines = []
    for row in rows:
        some, rare = row.coverages, row.of_rare
        three = {
            name: f"{f(some):.3f}" if some else "" for name, f in (("least", min), ("median", np.median), ("most", max))
        }
        counts = {"problems": str(row.problems), "draws": str(row.draws), "numbers": str(len(some)), **three}
        of_rare = {"rare": str(len(rare)), "least_rare": f"{min(rare):.3f}" if rare else ""}
        lines.append({"statistic": row.statistic, "part": row.part, "column": row.column, **counts, **of_rare})
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, nargs=2, metavar=("PROBLEMS", "DRAWS"), help="of one size instead of both")
    parser.add_argument("--only", nargs="+", choices=ALL, default=ALL, metavar="STATISTIC", help="keep the lines of others")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(Path(folder), dict([arguments.draws]) if arguments.draws else None, arguments.only)
    kept = [line for line in coverage_table() if line["statistic"] not in arguments.only]
    lines = sorted([*kept, *as_csv(rows)], key=lambda line: ALL.index(line["statistic"]))
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    for failure in failures(rows):
        print(failure)


if __name__ == "__main__":
    main()
