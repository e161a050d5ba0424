"""Takeovers: where they happen, how they cluster, which token replaces which, and the base entropy around them."""

from __future__ import annotations

import pyarrow as pa

from rrti_sgl.db.analysis.parameters import count
from rrti_sgl.db.analysis.query import Query, Values
from rrti_sgl.db.analysis.ratios import Ratio, insert_ratio_intervals, run_by_problem
from rrti_sgl.db.store import Store

_RATIOS = {"share": Ratio("n", "n", over="part", kind="share"), "mean": Ratio("total", "n")}
_ITEMS = ("part", "label", "base_token_id", "token_id")


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    return insert_ratio_intervals(store, table, run_by_problem(store, "takeovers", values), values, _RATIOS, _ITEMS)


QUERY = Query("takeovers", {"bins": count(10), "top": count(10)}, needs=("takeovers",), intervals=_add_intervals)
