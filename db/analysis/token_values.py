"""Columns of a run's tokens as arrays, for statistics that sort all of them.

In SQL a rank is a window function, which sorts whole rows: several times slower than sorting one array, and in memory that
grows with every metric. The SQL file of such a statistic says what it is; `Query.compute` finds the same numbers here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.db.analysis.query import run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.records import FloatArray


@dataclass(frozen=True, eq=False)
class TokenValues:
    """N tokens of one run.

    Attributes:
        problem: (N,) number of the token's problem from 0, in the order of problem ids.
        columns: (N,) values by column; NaN where there is none.
    """

    problem: NDArray[np.int32]
    columns: Mapping[str, FloatArray]

    def complete(self, *names: str) -> TokenValues:
        """The tokens that have a value in each of these columns, with these columns only."""
        there = np.logical_and.reduce([~np.isnan(self.columns[name]) for name in names])
        if there.all():
            return TokenValues(self.problem, {name: self.columns[name] for name in names})
        return TokenValues(self.problem[there], {name: self.columns[name][there] for name in names})


def read_token_values(store: Store, run: str, columns: Sequence[str]) -> TokenValues:
    """The columns, numbers all of them, of every token of a run."""
    table = run_sql(store, "_token_values", {"run": run, "columns": list(columns)})
    found = {name: table[name].to_numpy().astype(np.float64, copy=False) for name in columns}
    return TokenValues(table["problem"].to_numpy(), found)
