"""Columns of a run's tokens in blocks of whole samples, for statistics that sort all of them.

In SQL a rank is a window function, which sorts whole rows: several times slower than sorting one column, and in memory that
grows with the tokens. A `TokenReader` reads and sorts each column once for all statistics that are made with it. What is
longer than a block is kept in temporary files (`rrti_sgl.statistics.blocks`), so that memory does not grow with the tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rrti_sgl.db.analysis.query import run_sql, sql_text
from rrti_sgl.db.store import Store
from rrti_sgl.records import BoolArray, FloatArray, IntArray
from rrti_sgl.statistics.blocks import BLOCK, Blocks, Counted, problem_sums
from rrti_sgl.statistics.ranking import GroupRanking, Ranking
from rrti_sgl.statistics.resampling import ProblemBootstrap
from rrti_sgl.statistics.top_sets import Codes, ResampledScores

Made = TypeVar("Made")
# What a reader keeps, in memory and in files, if that is not of one run alone.
MOST_BYTES = 1 << 29
_READ = 1 << 17  # rows that are read at a time
_IN_ORDER = "\nORDER BY sample_id, position"
# What tells a sample's tokens from the next one's: a number is read faster than text, which is taken if two are the same.
_SAMPLE_KEYS = ("hash(sample_id)", "sample_id")


@dataclass(frozen=True, eq=False)
class Block:
    """n tokens of whole samples.

    Attributes:
        sample, problem: (n,) numbers of the token's sample and problem.
        length: (n,) tokens of its sample.
        columns: (n,) values by column; NaN where there is none.
    """

    sample: IntArray
    problem: IntArray
    length: IntArray
    columns: dict[str, FloatArray]

    def __len__(self) -> int:
        return len(self.sample)

    def __getitem__(self, name: str) -> FloatArray:
        return self.columns[name]

    def take(self, chosen: BoolArray) -> Block:
        """Some of the tokens, by a mask (n,)."""
        columns = {name: values[chosen] for name, values in self.columns.items()}
        return Block(self.sample[chosen], self.problem[chosen], self.length[chosen], columns)

    def in_samples(self, name: str) -> GroupRanking:
        """The order of a column, in which all have a value, within samples."""
        return GroupRanking.of(self[name], self.sample - (self.sample.min() if len(self) else 0))


@dataclass(frozen=True, eq=False)
class TokenValues:
    """N tokens of a run of S samples of P problems, and what was sorted of them.

    Attributes:
        problems: (S,) number of each sample's problem, from 0, in the order of problem ids.
        stretches: (T,) number of each sample that has tokens, as they are stored.
        sizes: (T,) tokens of each of these samples.
        edges: where blocks of them begin, and T; a sample is in one block.
        columns: values by column, in these blocks; NaN where there is none.
        needed: columns in which the tokens have a value: those that have none are left out.
    """

    problems: IntArray
    stretches: IntArray
    sizes: IntArray
    edges: Sequence[int]
    columns: dict[str, Blocks]
    needed: tuple[str, ...] = ()
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def n_problems(self) -> int:
        """P."""
        return int(self.problems.max()) + 1

    @property
    def block_lengths(self) -> list[int]:
        """Tokens of each block of the run."""
        return [int(self.sizes[first:last].sum()) for first, last in pairwise(self.edges)]

    def blocks(self, *names: str) -> Iterator[Block]:
        """The tokens with these columns, block by block."""
        problems = self.problems[self.stretches]
        for at, (first, last) in enumerate(pairwise(self.edges)):
            sizes = self.sizes[first:last]
            sample, problem, length = (np.repeat(each[first:last], sizes) for each in (self.stretches, problems, self.sizes))
            block = Block(sample, problem, length, {name: self.columns[name][at] for name in (*names, *self.needed)})
            if self.needed:
                there = np.logical_and.reduce([~np.isnan(block[name]) for name in self.needed])
                block = block if there.all() else block.take(there)
            yield block

    def __len__(self) -> int:
        """N."""
        key = ("length", self.needed)
        return self.once(key, lambda: sum(map(len, self.blocks())) if self.needed else int(self.sizes.sum()))

    def complete(self, *names: str) -> TokenValues:
        """The tokens that have a value in each of these columns."""
        lacking = [name for name in dict.fromkeys((*self.needed, *names)) if self._has_gaps(name)]
        return replace(self, needed=tuple(lacking))

    def _has_gaps(self, name: str) -> bool:
        return self.once(("gaps", name), lambda: any(np.isnan(values).any() for values in self.columns[name]))

    def ranking(self, name: str) -> Ranking:
        """The order of a column, in which all have a value."""
        return self.once(("ranking", name, self.needed), lambda: Ranking.of_parts(self._sorted(name)))

    def _sorted(self, name: str) -> Iterator[FloatArray]:
        """The values of each block, smallest first."""
        orders = self._made.get(("order", name, self.needed))
        for at, block in enumerate(self.blocks(name)):
            yield np.sort(block[name]) if orders is None else block[name][orders[at]]

    def order(self, name: str) -> Blocks:
        """Numbers of the tokens of each block, that with the smallest value first.

        To have it costs twice what sorting the values does: who needs it asks before `ranking`, which then does not sort.
        """

        def orders() -> Blocks:
            found = Blocks()
            for block in self.blocks(name):
                found.append(np.argsort(block[name]).astype(np.int32))
            return found

        return self.once(("order", name, self.needed), orders)

    def resampled(self, name: str, bootstrap: ProblemBootstrap) -> ResampledScores:
        """A column, in which all have a value, under the weights of resamples."""
        key = ("resampled", name, self.needed, bootstrap.n, bootstrap.seed)
        read = replace(self, _made={})  # not what keeps this: in a circle all would stay until Python looks for such

        def scan() -> Iterator[tuple[IntArray, FloatArray]]:
            return ((block.problem, block[name]) for block in read.blocks(name))

        return self.once(key, lambda: ResampledScores(self.ranking(name), scan, bootstrap))

    def sums(self, width: int, codes: Callable[[Block], tuple[Codes, Counted]], *names: str) -> FloatArray:
        """(P, width) what tokens count, by problem and by what `codes` makes of blocks with these columns: the code of each
        token (-1: not counted), and what it counts.
        """
        return problem_sums(((block.problem, *codes(block)) for block in self.blocks(*names)), self.n_problems, width)

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """What is made of the tokens: made once under a key."""
        if key not in self._made:
            self._made[key] = make()
        found: Made = self._made[key]
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, also of those that were sorted."""
        rankings = [made for made in self._made.values() if isinstance(made, Ranking)]
        return sum(each.nbytes for each in self.columns.values()) + sum(each.nbytes for each in rankings)


class TokenReader:
    """Reads columns of runs, each once, and keeps them and what is made of them: of other runs than the one that was asked
    for last, as many as fit into some space.

    What it has read stays what it was: it is made for one statistic, or for the statistics of one report.
    """

    def __init__(self, store: Store, most_bytes: int = MOST_BYTES) -> None:
        self.store, self._most_bytes = store, most_bytes
        self._runs: dict[str, TokenValues] = {}
        self._tables: dict[Any, Any] = {}
        self._mixed: set[str] = set()  # runs in which the tokens of a sample do not stand together

    def read(self, run: str, columns: Sequence[str]) -> TokenValues:
        """The tokens of a run with these columns, numbers or flags all of them, and those that were asked for before."""
        if run not in self._runs:
            self._runs[run] = self._without_columns(run)
        tokens = self._runs[run]
        if missing := [name for name in dict.fromkeys(columns) if name not in tokens.columns]:
            found = {name: Blocks() for name in missing}
            for rows in self.rows(run, "_token_values", tokens, columns=missing):
                for name in missing:
                    found[name].append(_floats(rows[name]))
            tokens.columns.update(found)
        others = sorted((each for each in self._runs if each != run), key=lambda each: self._runs[each].nbytes)
        while others and sum(each.nbytes for each in self._runs.values()) > self._most_bytes:
            del self._runs[others.pop(0)]  # the smallest: it is soon read again
        return tokens

    def rows(self, run: str, name: str, tokens: TokenValues, **params: Any) -> Iterator[pa.Table]:
        """The rows of `db/queries/<name>.sql`, one for each token of a run, in the blocks of the run."""
        # Rows that are only filtered come in the order in which they are stored, each time.
        query = sql_text(name) + (_IN_ORDER if run in self._mixed else "")
        batches = self.store.batches(query, {"run": run, **params}, runs=[run], rows=_READ)
        waiting: list[pa.RecordBatch] = []
        for length in tokens.block_lengths:
            while sum(map(len, waiting)) < length:
                waiting.append(next(batches))
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, length)
            waiting = table.slice(length).to_batches()

    def once(self, key: Any, make: Callable[[], Made]) -> Made:
        """A small thing about tokens, made once under a key."""
        if key not in self._tables:
            self._tables[key] = make()
        found: Made = self._tables[key]
        return found

    def _without_columns(self, run: str) -> TokenValues:
        samples = run_sql(self.store, "_run_samples", {"run": run})
        for key in _SAMPLE_KEYS:
            query = f"SELECT {key} FROM samples WHERE run_id = $run ORDER BY sample_id"
            keys = self.store.sql(query, {"run": run}, runs=[run]).column(0).to_numpy()
            if len(np.unique(keys)) == len(keys):
                break
        # Tokens of a sample are stored together, as a rule.
        stretches, sizes = self._stretches(run, key, keys, "")
        if len(np.unique(stretches)) < len(stretches):
            self._mixed.add(run)
            stretches, sizes = self._stretches(run, key, keys, _IN_ORDER)
        block = (np.cumsum(sizes) - 1) // BLOCK
        edges = [0, *(np.flatnonzero(np.diff(block)) + 1).tolist(), len(block)]
        return TokenValues(samples["problem"].to_numpy(), stretches, sizes, edges, {})

    def _stretches(self, run: str, key: str, keys: NDArray[Any], order: str) -> tuple[IntArray, IntArray]:
        """(T,) samples, and (T,) lengths, of stretches of tokens of one sample; `keys` (S,) are those of the samples."""
        query = f"SELECT {key} FROM tokens WHERE run_id = $run{order}"
        found, sizes = [keys[:0]], [np.zeros(0, np.int32)]
        for batch in self.store.batches(query, {"run": run}, runs=[run], rows=_READ):
            each = batch.column(0).to_numpy(zero_copy_only=False)
            first = np.flatnonzero(np.r_[True, each[1:] != each[:-1]])
            found.append(each[first])
            sizes.append(np.diff(first, append=len(each)))
        ordered = np.argsort(keys)
        sample = ordered[np.searchsorted(keys, np.concatenate(found), sorter=ordered)]
        first = np.flatnonzero(np.diff(sample, prepend=-1))  # a stretch may go on in the next batch
        size = np.concatenate(sizes)
        return sample[first].astype(np.int32), np.add.reduceat(size, first).astype(np.int32) if len(first) else size


def _floats(column: pa.ChunkedArray) -> FloatArray:
    """The values, NaN where there is none."""
    flags = pa.types.is_boolean(column.type)
    return np.asarray((column.cast(pa.int8()) if flags else column).to_numpy(), dtype=np.float64)
