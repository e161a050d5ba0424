"""Budget: how much accuracy a budget buys, and the knee of that curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rrti_sgl.db.analysis.graded import Outcomes, common_k, insert_ends, outcomes_of, pass_at_ks, share_bounds
from rrti_sgl.db.analysis.parameters import choice, count
from rrti_sgl.db.analysis.query import Query, Row, Values
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray

MIN_BUDGETS = 5  # of a curve with a knee, as in `budget.sql`
_RISE = 1e-12  # a point this little above the chord lies on it


def _with_passed(store: Store, coverage: Sequence[Row], values: Values) -> Values:
    """A k that is asked for must suit every run; without one each curve takes its own."""
    if values["k"] is not None:
        common_k(coverage, values["k"])
    return {**values, "passed": pass_at_ks(store, values["runs"])}


def knee_support(rho: FloatArray, height: FloatArray) -> FloatArray:
    """(n,) share of resamples (B, n) in which each point of a curve is its knee; points as in `budget.sql`."""
    order = np.argsort(rho, axis=1, kind="stable")
    x, y = (np.take_along_axis(values, order, axis=1) for values in (rho, height))
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = ((v - v.min(axis=1, keepdims=True)) / np.ptp(v, axis=1, keepdims=True) for v in (x, y))
        distance = np.round(y - y[:, :1] - (y[:, -1:] - y[:, :1]) * x, 12)
    distance = np.where(np.isfinite(distance), distance, -1.0)
    best = np.argmax(distance, axis=1)
    knee = np.take_along_axis(order, best[:, None], axis=1)[:, 0]
    found = distance[np.arange(len(best)), best] > _RISE
    return np.bincount(knee[found], minlength=rho.shape[1]) / len(rho)


def _add_intervals(store: Store, table: pa.Table, values: Values) -> pa.Table:
    rows = table.to_pylist()
    outcomes: dict[tuple[str, int], Outcomes] = {}
    for k in {row["k"] for row in rows}:
        runs = {row["run_id"]: k for row in rows if row["k"] == k}
        outcomes |= {(run, k): found for run, found in outcomes_of(store, runs, values).items()}
    points = [outcomes[row["run_id"], row["k"]] for row in rows]
    ends = [share_bounds([point]) for point in points]
    for each in ends:
        each["rho"] = each["rho_pooled"]
    support = np.full(len(rows), np.nan)
    for curve in {row["curve_id"] for row in rows}:
        places = [i for i, row in enumerate(rows) if row["curve_id"] == curve]
        budgets = {rows[i]["rho"] for i in places} - {0}
        if len(budgets) >= MIN_BUDGETS and all(points[i].of_graded.has_spread for i in places):
            rho, height = (np.stack([points[i].plain[name] for i in places], axis=1) for name in ("rho", values["of"]))
            rho[:, [rows[i]["rho"] == 0 for i in places]] = 0  # also of the other direction's run, which is rho 1 there
            support[places] = knee_support(rho, height)
    place = table.column_names.index("knee") + 1
    table = table.add_column(place, "knee_support", pa.array(support, pa.float64(), from_pandas=True))
    return insert_ends(table, ("rho", "accuracy", "pass_at_k"), ends)


QUERY = Query(
    "budget",
    {"k": count(None), "of": choice("pass_at_k", "accuracy")},
    needs=("graded",),
    prepare=_with_passed,
    intervals=_add_intervals,
)
