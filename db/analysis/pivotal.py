"""Pivotal: tokens at which the chance of a right solution jumps, beside the score and the takeovers."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from rrti_sgl.db.analysis.query import Query, Row, Values, run_sql
from rrti_sgl.db.analysis.ratios import Ratio, insert_tested_intervals
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError, command

_RATIOS = {
    "pivotal": Ratio("pivotal", "n", kind="share"),
    "control": Ratio("control", "n_matched", kind="share", untold=("word",)),
    "lead": Ratio("lead", "n_matched", kind="difference", untold=("word",)),
    "jump": Ratio("jump", "pivotal", kind="share"),
    "raises": Ratio("raises", "pivotal", kind="share"),
}
_ITEMS = ("part", "label")


def _check_searched(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """The runs are searches of stored samples."""
    values = {**values, "within": None}  # the samples that were searched are of other runs
    if not run_sql(store, "pivotal", values).num_rows:
        raise UsageError(
            f"No stored sample was searched for pivotal tokens by {', '.join(values['runs'])}.",
            f"Make such a run: {command('counterfactual', unit='pivotal')}.",
        )
    return values


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    return insert_tested_intervals(store, "pivotal", table, values, _RATIOS, _ITEMS)


QUERY = Query("pivotal", needs=("arms", "graded"), prepare=_check_searched, intervals=_add_intervals)
