"""What statistics need of runs: looked up first, so that what is missing is said by name, with what there is.

A run whose gate asked the reasoning model at takeovers only has divergences there and nowhere else: its tokens with a score
are those that the gate chose, and a statistic of them would be one of the gate. So it is made of a run only where a share of
the tokens has the scores, `least_coverage`, and every row says which share that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.db.tables import SCORES
from rrti_sgl.errors import UsageError

SAMPLE_NEEDS: Mapping[str, str] = {
    "graded": "no sample is graded: its problems have no reference answers.",
    "takeovers": "the gate never fired on its {n_tokens} tokens.",
    "arms": "its samples are no arms of an intervention at one position (program counterfactual).",
}
TOKEN_NEEDS: Mapping[str, str] = {
    "planning_tag": "no token carries a planning tag.",
    "planted": "its problems have no planted decision points.",
}
_NO_VALUE = "is NULL for every token."
# Columns in which NULL is an answer, that the token is no such one, and not a missing value.
_FLAGS = ("planning_tag", "planted")
LEAST_COVERAGE = 0.5
_COUNTS = ("samples", "graded", "wrong", "n_tokens", "takeovers", "arms", "fewest_graded")
# Columns of `runs` in which runs must agree before their scores may be pooled or compared.
SCORE_COLUMNS = ("base_model", "reasoning_model", "k", "score_kind")


class IncomparableRunsError(UsageError):
    """Runs differ in what those that are compared or pooled must have in common."""


def coverage(store: Store, query: Query, runs: Sequence[str], values: Values) -> list[dict[str, Any]]:
    """A row for each run: the columns of `_coverage.sql` and, for token columns that the statistic needs, how many tokens
    have a value (`n_<column>`), and of the scores how many are NaN or infinite (`undefined_`).

    `covered`: share of the tokens that have all scores that it needs, `graded_share`: share of the samples with a grade;
    None where it needs none.
    """
    rows = run_sql(store, "_coverage", {"runs": list(runs)}).to_pylist()
    columns = _token_columns(query, values)
    tokens: dict[str, Any] = {}
    if columns and any(row["n_tokens"] for row in rows):
        tokens = values["reader"].once((*runs, *columns), lambda: _token_coverage(store, runs, columns))
    missing = {f"n_{column}": 0 for column in ("covered", *columns)}
    found = [_without_null({**missing, **tokens.get(row["run_id"], {})}) | _without_null(row, _COUNTS) for row in rows]
    selects = any(column not in _FLAGS for column in columns)
    for row in found:
        row["covered"] = row["n_covered"] / row["n_tokens"] if selects and row["n_tokens"] else None
        graded = {"graded", "both"} & set(query.needs) and row["samples"]
        row["graded_share"] = row["graded"] / row["samples"] if graded else None
    return found


def _token_coverage(store: Store, runs: Sequence[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What `coverage` says of token columns, by run; a run without tokens has none."""
    scores = [column for column in columns if column in SCORES] or ["score"]
    asked = {"runs": list(runs), "columns": _pattern(columns), "scores": _pattern(scores)}
    found = {row["run_id"]: row for row in run_sql(store, "_token_coverage", asked).to_pylist()}
    joint = [column for column in columns if column not in _FLAGS] or columns
    for row in found.values():
        row["n_covered"] = min(row[f"n_{column}"] for column in joint)
    # A token may lack one column where another has all that it can have.
    several = [run for run, row in found.items() if sum(row[f"n_{column}"] < row["n"] for column in joint) > 1]
    if several:
        complete = run_sql(store, "_token_complete", {"runs": several, "columns": _pattern(joint)}).to_pylist()
        for run in several:
            found[run]["n_covered"] = 0
        for row in complete:
            found[row["run_id"]] |= row
    return found


def lacking(query: Query, row: Row, values: Values) -> str:
    """Why the statistic cannot be made of the run; empty when it can."""
    if not row["n_tokens"]:
        return "it has no samples yet."
    for need in query.needs:
        if need == "both":
            if not 0 < row["wrong"] < row["graded"]:
                return f"{row['wrong']} of its {row['graded']} graded answers are wrong; both kinds are needed."
        elif need in SAMPLE_NEEDS:
            if not row[need]:
                return SAMPLE_NEEDS[need].format(**row)
        elif not row[f"n_{_column_of(need, values)}"]:
            column = _column_of(need, values)
            return TOKEN_NEEDS.get(column) or f"{column} {_NO_VALUE}"
    return _selected(query, row, values)


def refusal(store: Store, query: Query, row: Row, reason: str) -> UsageError:
    """What is said where a statistic cannot be made of a run, with the metrics that it has if one is missing."""
    message = f"The statistic {query.name!r} cannot be made of run {row['run_id']}: {reason}"
    if not reason.endswith(_NO_VALUE):
        return UsageError(message)
    counts = _token_coverage(store, [row["run_id"]], SCORES)[row["run_id"]]
    there = [metric for metric in SCORES if counts[f"n_{metric}"]]
    return UsageError(message, f"It has: {', '.join(there) or 'no metric at all'}.")


def _selected(query: Query, row: Row, values: Values) -> str:
    """Why too few tokens of the run have the scores; empty where enough do."""
    if row["covered"] is None or row["covered"] >= values["least_coverage"]:
        return ""
    scores = " and ".join(column for column in _token_columns(query, values) if column not in _FLAGS)
    where = ", those that its gate chose" if row["takeovers"] else ""
    return (
        f"{row['n_covered']} of its {row['n_tokens']} tokens ({row['covered']:.1%}) have {scores}{where}. Name a run that "
        "both models scored throughout, another metric, or least_coverage=0 for the tokens there are."
    )


def of_scores(query: Query) -> bool:
    """Whether a statistic is made of scores, which only some tokens of a run may have."""
    return any(need not in (*SAMPLE_NEEDS, *_FLAGS, "both") for need in query.needs)


def said_of_runs(table: pa.Table, rows: Sequence[Row], metric: str | None) -> pa.Table:
    """The table with what its rows are of, after their run: the metric, and the shares `covered` and `graded`.

    A row of several runs has the smallest share of theirs, that of a predictor the share of tokens that have the predictor.
    """
    known = set(table.column_names)
    if "run_id" not in known:
        return table
    cells = table.select(sorted(known & {"run_id", "program", "problem_set", "predictor"})).to_pylist()
    units = [[row for row in rows if _is_of(cell, row)] for cell in cells]
    found = {
        "graded": [_smallest(row["graded_share"] for row in unit) for unit in units],
        "covered": [
            _smallest(_covered(row, cell.get("predictor")) for row in unit) for cell, unit in zip(cells, units, strict=True)
        ],
    }
    place = table.column_names.index("run_id") + 1
    for name, shares in found.items():
        if name not in known and any(share is not None for share in shares):
            table = table.add_column(place, name, pa.array(shares, pa.float64()))
    if metric is not None and not known & {"metric", "predictor"}:
        table = table.add_column(place, "metric", pa.array([metric] * len(table), pa.string()))
    return table


def _is_of(cell: Row, row: Row) -> bool:
    """Whether a row of a table is of a run, alone or among others."""
    if cell["run_id"] is not None:
        return bool(cell["run_id"] == row["run_id"])
    return all(row[name] == cell.get(name) for name in ("program", "problem_set"))


def _covered(row: Row, predictor: str | None) -> float | None:
    """Share of a run's tokens that have the predictor, or all scores that are needed."""
    if predictor is None or row["covered"] is None:
        return None if row["covered"] is None else float(row["covered"])
    return row[f"n_{predictor}"] / row["n_tokens"] if f"n_{predictor}" in row else None


def _smallest(shares: Iterable[float | None]) -> float | None:
    return min((share for share in shares if share is not None), default=None)


def refuse_undefined_scores(query: Query, rows: Sequence[Row], values: Values) -> None:
    """No NaN or infinite score among those that a statistic is made of.

    Raises:
        UsageError: naming run, column and number.
    """
    for row in rows:
        for column in _token_columns(query, values):
            if row.get(f"undefined_{column}"):
                n = row[f"undefined_{column}"]
                raise UsageError(
                    f"Run {row['run_id']} has {n} tokens whose {column} is NaN or infinite.",
                    f"Store NULL for what was not computed: UPDATE tokens SET {column} = NULL WHERE NOT isfinite({column}).",
                )


def require_same(rows: Sequence[Row], columns: Sequence[str], purpose: str) -> None:
    """Runs that are pooled or compared must agree in some columns of `runs`; NULL agrees with anything.

    Raises:
        IncomparableRunsError: naming two runs and the column in which they differ.
    """
    for column in columns:
        known = [row for row in rows if row[column] is not None]
        for row in known[1:]:
            if row[column] != known[0][column]:
                raise IncomparableRunsError(
                    f"{purpose}: run {row['run_id']} has {column} {row[column]!r}, run {known[0]['run_id']} "
                    f"{known[0][column]!r}.",
                    "Name runs that belong together.",
                )


def _without_null(row: Row, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """The row with 0 in place of NULL in some columns, by default in all."""
    return {name: 0 if value is None and name in (columns or row) else value for name, value in row.items()}


def _token_columns(query: Query, values: Values) -> list[str]:
    needs = [need for need in query.needs if need not in SAMPLE_NEEDS and need != "both"]
    return list(dict.fromkeys(_column_of(need, values) for need in needs))


def _column_of(need: str, values: Values) -> str:
    return str(values["metric"]) if need == "metric" else need


def _pattern(columns: Sequence[str]) -> str:
    return f"^({'|'.join(map(re.escape, columns))})$"
