"""Reallocation: the rank of the guest's token with the model that writes, and the mass that the guest moves."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from rrti_sgl.db.analysis.parameters import metric
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.ratios import Ratio, insert_ratio_intervals, run_by_problem
from rrti_sgl.db.store import Store

_SHARES = (
    *("first", "five", "listed", "host_probability", "tv"),
    *("host_on_first", "guest_on_first", "host_on_five", "guest_on_five"),
)
_RATIOS = {name: Ratio(name, "n", kind="share") for name in _SHARES}


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    by_problem = run_by_problem(store, "reallocation", values)
    table = insert_ratio_intervals(store, table, by_problem, values, _RATIOS, ("part", "label"))
    # The limits of tenths are held in resamples. What moves with them would have too narrow an interval, by simulation.
    for end in ("tv_low", "tv_high"):
        kept = pc.if_else(pc.equal(table["part"], "decile"), pa.scalar(None, pa.float64()), table[end])
        table = table.set_column(table.column_names.index(end), end, kept)
    return table


QUERY = Query("reallocation", {"metric": metric()}, needs=("metric", "tv"), intervals=_add_intervals)
