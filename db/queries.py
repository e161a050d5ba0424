"""The statistics by name: `run_query` checks parameters and runs, runs the SQL and adds the intervals.

A statistic is computed for each run apart, so the results of several runs stand in one table. What it needs of a run
(a metric, grades, planning tags, takeovers) is looked up first: a run that is named and lacks it is an error that says
what the run has; without names, the runs that have it are taken.

The result is an Arrow table, one line from pandas and polars::

    run_query(store, "sparsity", metric="ce").to_pandas()
    polars.from_arrow(run_query(store, "sparsity", metric="ce"))
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rrti_sgl import bounds
from rrti_sgl.db.analysis import parameters
from rrti_sgl.db.analysis.needs import (
    LEAST_COVERAGE,
    IncomparableRunsError,
    coverage,
    lacking,
    of_scores,
    refusal,
    refuse_undefined_scores,
    said_of_runs,
)
from rrti_sgl.db.analysis.parameters import Parameter
from rrti_sgl.db.analysis.query import QUERY_DIR, Query
from rrti_sgl.db.analysis.registry import QUERIES
from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.resampling import RESAMPLES, SEED

__all__ = ["QUERIES", "QUERY_DIR", "Query", "Runs", "find_query", "parameters_of", "run_query", "run_with_reader"]

Runs = str | Sequence[str] | None
# Of every statistic; 0 resamples leave the intervals out.
BOOTSTRAP: Mapping[str, Parameter] = {
    "resamples": parameters.count(RESAMPLES, least=0, most=bounds.RESAMPLES),
    "seed": parameters.count(SEED, least=0, most=bounds.WHOLE),
}

# Of statistics of scores.
COVERAGE: Mapping[str, Parameter] = {"least_coverage": parameters.part(LEAST_COVERAGE)}


def run_query(store: Store, name: str, *, run: Runs = None, **params: Any) -> pa.Table:
    """The table of a statistic.

    Args:
        store: where the runs are.
        name: one of `QUERIES`.
        run: run ids, prefixes of them or program names; None takes every run that has what the statistic needs and can be
            compared with the runs that parameters name.
        **params: values in place of the defaults of the statistic, and of `resamples` (0: no intervals) and `seed` of the
            bootstrap over problems.

    Raises:
        UsageError: an unknown name, parameter, value or run, or a run without what the statistic needs.
    """
    return run_with_reader(TokenReader(store), name, run=run, **params)


def run_with_reader(reader: TokenReader, name: str, *, run: Runs = None, **params: Any) -> pa.Table:
    """Like `run_query`, of the store of a reader: several statistics of the same tokens read and sort them once."""
    store = reader.store
    query = find_query(name)
    known = parameters_of(query)
    unknown = sorted(set(params) - set(known))
    if unknown:
        there = ", ".join(known) or "none but the runs"
        raise UsageError(f"The statistic {name!r} has no parameter {unknown[0]!r}.", f"It has: {there}.")
    values = {key: parameter.checked(key, params.get(key, parameter.default)) for key, parameter in known.items()}
    values["reader"] = reader
    values |= {key: _run_ids(store, key, parameter, values[key]) for key, parameter in known.items() if parameter.is_run}
    if not isinstance(values.get("metric"), list):
        whole = _table(store, query, run, values)
        assert whole is not None  # it must be
        return whole
    # What is asked for must be there; of the metrics that stand beside by default, those that are.
    asked = params.get("metric") is not None
    tables = [
        _table(store, query, run, values | {"metric": metric}, must=asked or not place)
        for place, metric in enumerate(values["metric"])
    ]
    return _in_order_of_runs([table for table in tables if table is not None])


def _table(store: Store, query: Query, run: Runs, values: Mapping[str, Any], *, must: bool = True) -> pa.Table | None:
    """The table of a statistic, of one metric where it is of a metric; None where it `must` not be and no run has it."""
    values = dict(values)
    rows = coverage(store, query, _chosen_runs(store, query, run, values), values)
    reasons = [lacking(query, row, values) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
    named = _named_runs(query, values)
    if not kept and not must:
        return None
    for row, reason in zip(rows, reasons, strict=True):
        if reason and must and (run is not None or not kept or row["run_id"] in named):
            raise refusal(store, query, row, reason)
    refuse_undefined_scores(query, kept, values)
    kept, values = _prepared(store, query, kept, values, named if run is None else [])
    table = query.table(store, values)
    _refuse_undefined(query, table, values)
    return said_of_runs(table, kept, values.get("metric"))


def _prepared(
    store: Store, query: Query, rows: list[dict[str, Any]], values: Mapping[str, Any], named: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The runs and values that a statistic is made of: beside runs that are `named` those that can be compared with them."""

    def prepared(chosen: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        found = {**values, "runs": [row["run_id"] for row in chosen]}
        return chosen, found if query.prepare is None else dict(query.prepare(store, chosen, found))

    try:
        return prepared(rows)
    except IncomparableRunsError:
        fixed = [row for row in rows if row["run_id"] in named]
        others = []
        for row in rows if fixed else ():
            if row not in fixed:
                with contextlib.suppress(IncomparableRunsError):
                    prepared([*fixed, row])
                    others.append(row)
        if len(fixed) + len(others) < 2:  # nothing to compare
            raise
    return prepared([*fixed, *others])


def _in_order_of_runs(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of several metrics as one, the rows of a run together; a predictor that is in several stands once."""
    whole = pa.concat_tables(tables)
    place: dict[tuple[Any, ...], int] = {}
    last: dict[tuple[Any, ...], tuple[int, int]] = {}
    for number, row in enumerate(whole.to_pylist()):
        unit = tuple(row[name] for name in ("run_id", "program", "problem_set") if name in row)
        place.setdefault(unit, len(place))
        one_of = (row["run_id"], row["predictor"], row["top_k"]) if "predictor" in row else (number,)
        last[one_of] = (place[unit], number)
    return whole.take([number for _, number in sorted(last.values())])


def find_query(name: str) -> Query:
    """The statistic of that name.

    Raises:
        UsageError: there is none; the message names what there is.
    """
    if name not in QUERIES:
        raise UsageError(f"There is no statistic {name!r}.", f"Choose one of: {', '.join(QUERIES)}.")
    return QUERIES[name]


def parameters_of(query: Query) -> Mapping[str, Parameter]:
    """Every parameter of a statistic by name, those of the coverage and of the bootstrap included."""
    return {**query.parameters, **(COVERAGE if of_scores(query) else {}), **BOOTSTRAP}


def _run_ids(store: Store, name: str, parameter: Parameter, reference: Any) -> str | list[str] | None:
    """What a parameter that refers to runs stands for: an id, or a list of ids."""
    if reference is None:
        return None
    references = [reference] if isinstance(reference, str) else reference
    found = list(dict.fromkeys(run.run_id for each in references for run in store.find_runs(each)))
    if parameter.is_run == "many":
        return found
    if len(found) > 1:
        raise UsageError(f"The {name} run {reference!r} could be any of {', '.join(found)}.", "Give one id.")
    return found[0]


def _named_runs(query: Query, values: Mapping[str, Any]) -> list[str]:
    """Ids of the runs that parameters name."""
    named = [values[key] for key, parameter in query.parameters.items() if parameter.is_run and values[key] is not None]
    return [each for item in named for each in ([item] if isinstance(item, str) else item)]


def _chosen_runs(store: Store, query: Query, run: Runs, values: Mapping[str, Any]) -> list[str]:
    """Run ids in the order they were named, each once; runs that parameters name come first."""
    chosen = _named_runs(query, values)
    references: list[str | None] = [None] if run is None else [run] if isinstance(run, str) else list(run)
    chosen += [found.run_id for reference in references for found in store.find_runs(reference)]
    if not chosen:
        raise UsageError(f"There is no run to make {query.name!r} of: the store {store.path} has none.")
    return list(dict.fromkeys(chosen))


def _refuse_undefined(query: Query, table: pa.Table, values: Mapping[str, Any]) -> None:
    """No empty table and no NULL in place of the number that was asked for."""
    if not table.num_rows:
        raise UsageError(f"The statistic {query.name!r} has no rows for runs {', '.join(values['runs'])}.")
    for column, why in query.undefined.items():
        for row in table.to_pylist():
            if row[column] is None or row[column] != row[column]:
                raise UsageError(f"The statistic {query.name!r} is undefined for run {row['run_id']}: {why}.")
