"""What statistics need of runs: looked up first, so that what is missing is said by name, with what there is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

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
_COUNTS = ("samples", "graded", "wrong", "n_tokens", "takeovers", "arms", "fewest_graded")
# Columns of `runs` in which runs must agree before their scores may be pooled or compared.
SCORE_COLUMNS = ("base_model", "reasoning_model", "k", "score_kind")


def coverage(store: Store, query: Query, runs: Sequence[str], values: Values) -> list[dict[str, Any]]:
    """A row for each run: the columns of `_coverage.sql` and, for token columns that the statistic needs, how many tokens
    have a value (`n_<column>`), and of the scores how many are NaN or infinite (`undefined_`) or negative (`negative_`).
    """
    rows = run_sql(store, "_coverage", {"runs": list(runs)}).to_pylist()
    columns = _token_columns(query, values)
    tokens: dict[str, Any] = {}
    if columns and any(row["n_tokens"] for row in rows):
        scores = [column for column in columns if column in SCORES] or ["score"]
        patterns = {"columns": _pattern(columns), "scores": _pattern(scores), "runs": list(runs)}
        tokens = {row["run_id"]: row for row in run_sql(store, "_token_coverage", patterns).to_pylist()}
    missing = {f"n_{column}": 0 for column in columns}
    return [_without_null({**missing, **tokens.get(row["run_id"], {})}) | _without_null(row, _COUNTS) for row in rows]


def lacking(store: Store, query: Query, row: Row, values: Values) -> str:
    """Why the statistic cannot be made of the run, with what the run has; empty when it can."""
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
            return TOKEN_NEEDS.get(column) or f"{column} is NULL for every token. It has: {_present(store, row)}."
    return ""


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
        UsageError: naming two runs and the column in which they differ.
    """
    for column in columns:
        known = [row for row in rows if row[column] is not None]
        for row in known[1:]:
            if row[column] != known[0][column]:
                raise UsageError(
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


def _present(store: Store, row: Row) -> str:
    """The metrics that a run has."""
    patterns = {"columns": _pattern(SCORES), "scores": _pattern(["score"]), "runs": [row["run_id"]]}
    [counts] = run_sql(store, "_token_coverage", patterns).to_pylist()
    return ", ".join(metric for metric in SCORES if counts[f"n_{metric}"]) or "no metric at all"


def _pattern(columns: Sequence[str]) -> str:
    return f"^({'|'.join(map(re.escape, columns))})$"
