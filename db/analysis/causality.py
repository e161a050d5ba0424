"""Causality: whether takeovers, and sentences, were necessary, from counterfactual runs."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import Ratio, insert_tested_intervals
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError

_COLUMNS = ("taken", "denied", "effect", "necessary", "harmful")
_RATIOS = {
    **{name: Ratio(name, "n", kind="difference" if name == "effect" else "share") for name in _COLUMNS},
    "answers": Ratio("answers", "n_answers", kind="difference"),
    "kl": Ratio("kl", "n_kl", kind="share", most="most_kl"),
}


def _check_arms(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """At least one unit of a stored sample has both arms graded."""
    values = {**values, "within": None}  # the samples that arms continue are of other runs
    [counts] = run_sql(store, "_causality_arms", values).to_pylist()
    if not counts["positions"] and counts["beginnings"] < 2:
        raise UsageError(
            f"No position of {', '.join(values['runs'])} has both arms: {counts['taken']} graded samples are taken, "
            f"{counts['denied']} denied; the stored samples of {counts['parents']} are there.",
            "Finish the counterfactual runs, in the store that has the samples which they continue.",
        )
    return values


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    return insert_tested_intervals(store, "causality", table, values, _RATIOS, ["part", "unit", "decile", "tag"])


QUERY = Query("causality", needs=("arms", "graded"), prepare=_check_arms, intervals=_add_intervals)
