"""Long arrays block by block, so that what is made of them needs the memory of one block, however many there are."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.errors import StoreError
from rrti_sgl.records import FloatArray

BLOCK = 1 << 20  # numbers of a block, about
Numbers = NDArray[np.integer[Any]] | FloatArray
# What each of some cases counts; None: 1.
Counted = NDArray[Any] | None


class Blocks:
    """An array that grows by blocks of one type. Up to `BLOCK` numbers are in memory; more are in a file without a name in
    the folder of temporary files, which is gone with the object or the process.
    """

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self._held: list[Any] = []
        self._file: Any = None
        self._starts: list[int] = []

    def append(self, block: Numbers) -> None:
        """One more block.

        Raises:
            StoreError: there is no room for temporary files.
        """
        if not self.lengths:
            self.dtype = block.dtype
        self.lengths.append(len(block))
        self._held.append(np.asarray(block, dtype=self.dtype))
        if self._file is not None or (sum(self.lengths) > BLOCK and len(self.lengths) > 1):
            held, self._held = self._held, []
            for each in held:
                self._write(each)

    def _write(self, block: Numbers) -> None:
        if self._file is None:
            self._file = self._written(tempfile.TemporaryFile, buffering=0)
            weakref.finalize(self, self._file.close)
        self._starts.append(self._file.tell())
        rest = np.ascontiguousarray(block).view(np.uint8)
        while len(rest):
            rest = rest[self._written(self._file.write, rest.data) :]

    @staticmethod
    def _written(call: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return call(*arguments, **options)
        except OSError as error:
            where = tempfile.gettempdir()
            message = f"The statistic's temporary files cannot be written in {where} ({error.strerror})."
            raise StoreError(message, "Make room there, or name another folder in the variable TMPDIR.") from error

    def part(self, at: int, first: int, last: int) -> Any:
        """Numbers `first` to before `last` of a block."""
        if self._file is None:
            return self._held[at][first:last]
        size = self.dtype.itemsize
        return np.frombuffer(
            os.pread(self._file.fileno(), (last - first) * size, self._starts[at] + first * size), self.dtype
        )

    def __getitem__(self, at: int) -> Any:
        return self.part(at, 0, self.lengths[at])

    def __len__(self) -> int:
        """How many blocks there are."""
        return len(self.lengths)

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(len(self)))

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks, wherever they are."""
        return sum(self.lengths) * self.dtype.itemsize if self.lengths else 0


def problem_sums(
    parts: Iterable[tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]], Counted]], n_problems: int, width: int
) -> FloatArray:
    """(P, width) what cases count, by problem and code.

    Args:
        parts: the problem of each case, its code from 0 (-1: not counted), and what it counts.
        n_problems: P.
        width: how many codes there are.
    """
    found = np.zeros((n_problems, width))
    for problem, codes, counted in parts:
        kept = codes >= 0
        if not kept.all():
            problem, codes = problem[kept], codes[kept]
            counted = None if counted is None else counted[kept]
        if len(problem):
            # The problems of a block stand together, as a rule.
            first, n = int(problem.min()), int(problem.max() - problem.min()) + 1
            cells = (problem.astype(np.int64) - first) * width + codes
            found[first : first + n] += np.bincount(cells, counted, n * width).reshape(n, width)
    return found
