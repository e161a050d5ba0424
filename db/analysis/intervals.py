"""How a table of estimates gets its intervals: columns `<column>_low` and `<column>_high` right after `<column>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from rrti_sgl.db.analysis.query import Values
from rrti_sgl.statistics.resampling import Bounds, ProblemBootstrap


def bootstrap_of(n_problems: int, values: Values, *, exact: bool = False) -> ProblemBootstrap | None:
    """The bootstrap that the parameters of a statistic ask for; None where they ask for no intervals."""
    if not values["resamples"]:
        return None
    return ProblemBootstrap(n_problems, seed=values["seed"], n=values["resamples"], exact=exact)


def insert_interval(table: pa.Table, column: str, lows: ArrayLike, highs: ArrayLike) -> pa.Table:
    """The table with the bounds of one column, one for each row; NaN, and what has no estimate, becomes NULL.

    An estimate lies in its interval: where all resamples are beyond it, as they can be at its largest possible value, it is
    the end.
    """
    place = table.column_names.index(column) + 1
    estimates = np.asarray(table[column].to_numpy(), dtype=np.float64)
    low, high = np.asarray(lows, dtype=np.float64), np.asarray(highs, dtype=np.float64)
    for end, bounds in (("high", np.maximum(high, estimates)), ("low", np.minimum(low, estimates))):
        table = table.add_column(place, f"{column}_{end}", pa.array(bounds, pa.float64(), from_pandas=True))
    return table


def named(column: str, bounds: Bounds, at: int = 0) -> dict[str, float]:
    """One interval of `bounds` as cells of a row."""
    return {f"{column}_low": float(bounds[0][at]), f"{column}_high": float(bounds[1][at])}


def table_of(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, intervals: Sequence[str], values: Values) -> pa.Table:
    """Rows as a table of estimates, where intervals are asked for with those of some columns, as `named` gives them."""
    table = pa.Table.from_pylist(list(rows), schema)
    if values["resamples"]:
        for column in intervals:
            ends = [[row.get(f"{column}_{end}", np.nan) for row in rows] for end in ("low", "high")]
            table = insert_interval(table, column, *ends)
    return table
