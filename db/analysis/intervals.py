"""How a table of estimates gets its intervals: columns `<column>_low` and `<column>_high` right after `<column>`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike


def insert_interval(table: pa.Table, column: str, lows: ArrayLike | Sequence[float | None], highs: ArrayLike) -> pa.Table:
    """The table with the bounds of one column, one for each row; NaN becomes NULL."""
    place = table.column_names.index(column) + 1
    for name, bounds in ((f"{column}_high", highs), (f"{column}_low", lows)):
        values = np.asarray(bounds, dtype=np.float64)
        table = table.add_column(place, name, pa.array(values, pa.float64(), from_pandas=True))
    return table
