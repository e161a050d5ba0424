"""The statistics by name: each is a `.sql` file in `queries/`, run here with checked parameters.

A statistic is computed for each run apart, so the results of several runs stand in one table. What it needs of a run
(a metric, grades, planning tags, takeovers) is looked up first: a run that is named and lacks it is an error that says
what the run has; without names, the runs that have it are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from rrti_sgl.db.mapping import METRICS
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError

QUERY_DIR = Path(__file__).resolve().parent / "queries"
Runs = str | Sequence[str] | None


@dataclass(frozen=True)
class Query:
    """A statistic: its parameters with their defaults, and what it needs of every run.

    `needs` names columns of `_coverage.sql` that must be positive; "metric" stands for the metric that is asked for, and
    "both" for right as well as wrong answers.
    """

    name: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()

    @property
    def sql(self) -> str:
        """The text of its file."""
        return (QUERY_DIR / f"{self.name}.sql").read_text(encoding="utf-8")

    @property
    def question(self) -> str:
        """The first line of its header: the question it answers."""
        return self.sql.splitlines()[0].removeprefix("-- ")


TAILS = [0.01, 0.05, 0.08, 0.1, 0.2]
QUERIES: Mapping[str, Query] = {
    query.name: query
    for query in (
        Query("sparsity", {"metric": "ce", "carried": [0.5, 0.8, 0.9, 0.94], "top": TAILS}, ("metric",)),
        Query("position", {"metric": "ce", "p": 0.01, "bins": 20}, ("metric",)),
        Query("uncertainty", {"metric": "ce", "ps": TAILS}, ("metric", "entropy_base")),
        Query("planning", {"metric": "ce", "p": 0.01}, ("metric", "entropy_base", "planning")),
        Query("failure", {"metric": "ce", "top_k": 100}, ("metric", "entropy_base", "both")),
        Query("accuracy", {"k": None, "base": None, "reasoning": None}, ("graded",)),
        Query("takeovers", {"bins": 10, "top": 10}, ("takeovers",)),
        Query("cost", {}, ("n_tokens",)),
    )
}


def run_query(store: Store, name: str, *, run: Runs = None, **params: Any) -> pa.Table:
    """The table of a statistic.

    Args:
        store: where the runs are.
        name: one of `QUERIES`.
        run: run ids, prefixes of them or program names; None takes every run that has what the statistic needs.
        **params: values in place of the defaults in `QUERIES`; `base` and `reasoning` of `accuracy` name one run each.

    Raises:
        UsageError: an unknown name, parameter, value or run, or a run without what the statistic needs.
    """
    query = find_query(name)
    unknown = sorted(set(params) - set(query.defaults))
    if unknown:
        known = ", ".join(query.defaults) or "none but the runs"
        raise UsageError(f"The statistic {name!r} has no parameter {unknown[0]!r}.", f"It has: {known}.")
    values = {key: _checked(key, params.get(key, default), default) for key, default in query.defaults.items()}
    for reference in ("base", "reasoning"):
        if values.get(reference) is not None:
            values[reference] = _one_run(store, reference, values[reference])
    runs = _chosen_runs(store, query, run, values)
    coverage = _coverage(store, runs)
    kept = [row for row in coverage if not (run is None and _lacking(query, row, values))]
    for row in kept or coverage:
        lacking = _lacking(query, row, values)
        if lacking:
            raise UsageError(f"The statistic {name!r} cannot be made of run {row['run_id']}: {lacking}")
    if name == "accuracy":
        values["k"] = _pass_k(kept, values)
    values["runs"] = [row["run_id"] for row in kept]
    table = store.sql(query.sql, values)
    _refuse_undefined(name, table, values)
    return table


def find_query(name: str) -> Query:
    """The statistic of that name.

    Raises:
        UsageError: there is none; the message names what there is.
    """
    if name not in QUERIES:
        raise UsageError(f"There is no statistic {name!r}.", f"Choose one of: {', '.join(QUERIES)}.")
    return QUERIES[name]


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_shares(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(_is_share(item) for item in value)


def _checked(key: str, value: Any, default: Any) -> Any:
    """A parameter value of the right type and range."""
    if value is None and default is None:
        return None
    test: Callable[[Any], bool]
    if key == "metric":
        test, wanted = (lambda metric: metric in METRICS), f"one of {', '.join(METRICS)}"
    elif key in ("base", "reasoning"):
        test, wanted = (lambda reference: isinstance(reference, str)), "a run"
    elif isinstance(default, list):
        test, wanted = _are_shares, "a list of shares between 0 and 1"
    elif isinstance(default, float):
        test, wanted = _is_share, "a share between 0 and 1"
    else:
        test, wanted = _is_count, "a whole number from 1"
    if not test(value):
        raise UsageError(f"The parameter {key!r} cannot be {value!r}.", f"Give {wanted}.")
    return sorted({float(item) for item in value}) if isinstance(value, list | tuple) else value


def _one_run(store: Store, parameter: str, reference: str) -> str:
    found = [run.run_id for run in store.find_runs(reference)]
    if len(found) > 1:
        raise UsageError(f"The {parameter} run {reference!r} could be any of {', '.join(found)}.", "Give one id.")
    return found[0]


def _chosen_runs(store: Store, query: Query, run: Runs, values: Mapping[str, Any]) -> list[str]:
    """Run ids in the order they were named, each once; the runs that `base` and `reasoning` name come first."""
    references: list[str | None] = [None] if run is None else [run] if isinstance(run, str) else list(run)
    named = [values[key] for key in ("base", "reasoning") if values.get(key) is not None]
    chosen = named + [found.run_id for reference in references for found in store.find_runs(reference)]
    if not chosen:
        raise UsageError(f"There is no run to make {query.name!r} of: the store {store.path} has none.")
    return list(dict.fromkeys(chosen))


def _coverage(store: Store, runs: list[str]) -> list[dict[str, Any]]:
    rows = store.sql(Query("_coverage").sql, {"runs": runs}).to_pylist()
    return [{key: 0 if value is None else value for key, value in row.items()} for row in rows]


def _lacking(query: Query, row: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Why the statistic cannot be made of the run, with what the run has; empty when it can."""
    if not row["n_tokens"]:
        return "it has no samples yet."
    for need in query.needs:
        column = str(values["metric"]) if need == "metric" else need
        if need == "both":
            if not 0 < row["wrong"] < row["graded"]:
                return f"{row['wrong']} of its {row['graded']} graded answers are wrong; both kinds are needed."
        elif not row[column]:
            if column in METRICS:
                present = ", ".join(metric for metric in METRICS if row[metric]) or "no metric at all"
                return f"{column} is NULL for every token. It has: {present}."
            missing = {
                "planning": "no token carries a planning tag.",
                "graded": "no sample is graded: its problems have no reference answers.",
                "takeovers": f"the gate never fired on its {row['n_tokens']} tokens.",
            }
            return missing[column]
    return ""


def _pass_k(coverage: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> int:
    """The k of pass@k, once the runs are known to be comparable."""
    fewest = min(coverage, key=lambda row: int(row["fewest_graded"]))
    k = values["k"] or fewest["fewest_graded"]
    if k > fewest["fewest_graded"]:
        message = f"pass@{k} needs {k} graded samples of a problem; run {fewest['run_id']} has"
        raise UsageError(f"{message} a problem with {fewest['fewest_graded']}.", "Give a smaller k.")
    reference = next((row for row in coverage if row["run_id"] in (values["base"], values["reasoning"])), None)
    for row in coverage if reference is not None else ():
        if reference is not None and row["graded_problems"] != reference["graded_problems"]:
            raise UsageError(
                f"Recovery compares runs on the same problems; run {row['run_id']} has {len(row['graded_problems'])} of "
                f"{row['problem_set']}, run {reference['run_id']} {len(reference['graded_problems'])} of "
                f"{reference['problem_set']}.",
                "Name the runs that belong together.",
            )
    return int(k)


def _refuse_undefined(name: str, table: pa.Table, values: Mapping[str, Any]) -> None:
    """No empty table and no NULL in place of the number that was asked for."""
    if not table.num_rows:
        raise UsageError(f"The statistic {name!r} has no rows for runs {', '.join(values['runs'])}.")
    for column, why in (("auroc", "all samples with a value are right, or all are wrong"), ("value", "it sums to 0")):
        for row in table.to_pylist() if column in table.column_names else ():
            if row[column] is None or row[column] != row[column]:
                raise UsageError(f"The statistic {name!r} is undefined for run {row['run_id']}: {why}.")
