"""Columns of a run's tokens as arrays, for statistics that sort all of them.

In SQL a rank is a window function, which sorts whole rows: several times slower than sorting one array, and in memory that
grows with every metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rrti_sgl.db.analysis.query import Values, run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class TokenValues:
    """N tokens of a run of S samples of P problems.

    Attributes:
        problems: (S,) number of each sample's problem, from 0, in the order of problem ids.
        lengths: (S,) tokens of each sample.
        sample: (N,) number of the token's sample.
        columns: (N,) values by column; NaN where there is none.
    """

    problems: IntArray
    lengths: IntArray
    sample: IntArray
    columns: Mapping[str, FloatArray]

    @property
    def n_problems(self) -> int:
        """P."""
        return int(self.problems.max()) + 1

    @cached_property
    def problem(self) -> IntArray:
        """(N,) number of the token's problem."""
        return self.problems[self.sample]

    def __len__(self) -> int:
        return len(self.sample)

    def by_problem(self, mask: BoolArray | None = None) -> FloatArray:
        """(P,) tokens of each problem, those of a mask (N,) only if there is one."""
        problem = self.problem if mask is None else self.problem[mask]
        return np.bincount(problem, minlength=self.n_problems).astype(np.float64)

    def take(self, chosen: BoolArray | NDArray[np.integer[Any]]) -> TokenValues:
        """Some of the tokens, by a mask (N,) or their indices."""
        return replace(
            self, sample=self.sample[chosen], columns={name: values[chosen] for name, values in self.columns.items()}
        )

    def complete(self, *names: str) -> TokenValues:
        """The tokens that have a value in each of these columns."""
        there = np.logical_and.reduce([~np.isnan(self.columns[name]) for name in names])
        return self if there.all() else self.take(there)


def read_token_values(store: Store, run: str, columns: Sequence[str]) -> TokenValues:
    """The columns, numbers or flags all of them, of every token of a run."""
    return _values(store, run, run_sql(store, "_token_values", {"run": run, "columns": list(dict.fromkeys(columns))}))


def run_token_sql(store: Store, run: str, name: str, values: Values) -> TokenValues:
    """The tokens of a run as `db/queries/<name>.sql` gives them, whose column `sample` is that of `_token_values.sql`."""
    return _values(store, run, run_sql(store, name, {**values, "run": run}))


def _values(store: Store, run: str, table: pa.Table) -> TokenValues:
    samples = run_sql(store, "_run_samples", {"run": run})
    return TokenValues(
        samples["problem"].to_numpy(),
        samples["n_tokens"].to_numpy().astype(np.int32, copy=False),
        table["sample"].to_numpy(),
        {name: _floats(table[name]) for name in table.column_names if name != "sample"},
    )


def _floats(column: pa.ChunkedArray) -> FloatArray:
    return np.asarray(column.to_numpy(), dtype=np.float64)
