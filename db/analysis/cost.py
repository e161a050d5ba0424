"""Cost: requests, tokens and time, and what the radix caches saved."""

from __future__ import annotations

import pyarrow as pa

from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.ratios import Ratio, insert_ratio_intervals, run_by_problem
from rrti_sgl.db.store import Store

_RATIOS = {"per_token": Ratio("total", "tokens"), "share": Ratio("total", "whole", kind="share")}


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    return insert_ratio_intervals(store, table, run_by_problem(store, "cost", values), values, _RATIOS, ["quantity"])


QUERY = Query("cost", intervals=_add_intervals)
