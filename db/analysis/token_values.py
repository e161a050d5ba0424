"""Columns of a run's tokens as arrays, for statistics that sort all of them.

In SQL a rank is a window function, which sorts whole rows: several times slower than sorting one array, and in memory that
grows with every metric. A `TokenReader` reads and sorts each column once for all statistics that are made with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rrti_sgl.db.analysis.query import run_sql
from rrti_sgl.db.store import Store
from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.statistics.ranking import GroupRanking, Ranking, in_top
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.top_sets import ResampledScores

Made = TypeVar("Made")
# What a reader keeps, if that is not of one run alone.
MOST_BYTES = 1 << 29


@dataclass(frozen=True, eq=False)
class TokenValues:
    """N tokens of a run of S samples of P problems, and what was sorted of them.

    Attributes:
        problems: (S,) number of each sample's problem, from 0, in the order of problem ids.
        lengths: (S,) tokens of each sample.
        sample: (N,) number of the token's sample.
        columns: (N,) values by column; NaN where there is none.
    """

    problems: IntArray
    lengths: IntArray
    sample: IntArray
    columns: dict[str, FloatArray]
    _made: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

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

    def ranking(self, name: str) -> Ranking:
        """The order of a column, in which all have a value."""
        return self.once(("ranking", name), lambda: Ranking.of(self.columns[name]))

    def in_top(self, name: str, p: float) -> BoolArray:
        """(N,) which tokens are in the top-p set of a column, in which all have a value."""
        made = self._made.get(("ranking", name))
        return in_top(self.columns[name], p) if made is None else made.in_top(p)

    def in_samples(self, name: str) -> GroupRanking:
        """The order of a column within samples."""
        others = [key for key in self._made if key[0] == "in_samples" and key[1] != name]
        for key in others[:-1]:  # two are compared at a time; a third is not worth its memory
            del self._made[key]
        return self.once(("in_samples", name), lambda: GroupRanking.of(self.columns[name], self.sample))

    def resampled(self, name: str, bootstrap: ProblemBootstrap) -> ResampledScores:
        """A column under the weights of resamples."""
        key = ("resampled", name, bootstrap.n, bootstrap.seed)
        return self.once(key, lambda: ResampledScores(self.ranking(name), self.problem, bootstrap))

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """What is made of the tokens, an object that holds its arrays as attributes: made once under a key."""
        if key not in self._made:
            self._made[key] = make()
        found: Made = self._made[key]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays, also of those that were made of them."""
        held = (self.columns, *map(vars, (self, *self._made.values())))
        return sum({id(a): a.nbytes for each in held for a in each.values() if isinstance(a, np.ndarray)}.values())


class TokenReader:
    """Reads columns of runs, each once, and keeps them and what is made of them: of other runs than the one that was asked
    for last, as many as fit into some memory.

    What it has read stays what it was: it is made for one statistic, or for the statistics of one report.
    """

    def __init__(self, store: Store, most_bytes: int = MOST_BYTES) -> None:
        self.store, self._most_bytes = store, most_bytes
        self._runs: dict[str, TokenValues] = {}
        self._tables: dict[Any, pa.Table] = {}

    def read(self, run: str, columns: Sequence[str]) -> TokenValues:
        """The tokens of a run with these columns, numbers or flags all of them, and those that were asked for before."""
        if run not in self._runs:
            self._runs[run] = self._without_columns(run)
        tokens = self._runs[run]
        if missing := [name for name in dict.fromkeys(columns) if name not in tokens.columns]:
            # Rows that are only filtered come in the order in which they are stored, each time.
            table = run_sql(self.store, "_token_values", {"run": run, "columns": missing})
            tokens.columns.update({name: _floats(table[name]) for name in missing})
        others = sorted((each for each in self._runs if each != run), key=lambda each: len(self._runs[each]))
        while others and sum(each.nbytes for each in self._runs.values()) > self._most_bytes:
            del self._runs[others.pop(0)]  # the smallest: it is soon read again
        return tokens

    def once(self, key: Any, make: Callable[[], pa.Table]) -> pa.Table:
        """A small table about tokens, made once under a key."""
        if key not in self._tables:
            self._tables[key] = make()
        return self._tables[key]

    def _without_columns(self, run: str) -> TokenValues:
        samples = run_sql(self.store, "_run_samples", {"run": run})
        # Tokens of a sample are stored together, as a rule: the names of samples are looked up once for each stretch.
        query = "SELECT sample_id FROM tokens WHERE run_id = $run"
        ids = self.store.sql(query, {"run": run}, runs=[run])["sample_id"]
        parts = [pc.run_end_encode(chunk) for chunk in ids.chunks]
        names = pa.chunked_array([part.values for part in parts], pa.string())
        sizes = [np.diff(part.run_ends.to_numpy(), prepend=0) for part in parts]
        return TokenValues(
            samples["problem"].to_numpy(),
            samples["n_tokens"].to_numpy().astype(np.int32, copy=False),
            np.repeat(
                pc.index_in(names, samples["sample_id"].combine_chunks()).to_numpy(),
                np.concatenate([[], *sizes]).astype(np.int64),
            ),
            {},
        )


def _floats(column: pa.ChunkedArray) -> FloatArray:
    """The values as they are, whole numbers and flags with NULL among them as floats."""
    found = (column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column).to_numpy()
    return found if found.dtype.kind == "i" else np.asarray(found, dtype=np.float64)
