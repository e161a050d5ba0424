"""The base model's own sequences: table of slots, slots and radix tree, so that its prompt may be another.

Row i of the table belongs to whoever holds row i of the reasoning model's, so there is nothing to hand out. A row is freed
when its request finishes, and at the latest before the next forward pass, whatever way the request left.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rrti_sgl.fused import places


class Slots:
    """Free list of the slots of the base model's keys and values: as much of an allocator as SGLang's radix tree needs."""

    page_size = 1

    def __init__(self, size: int, device: str) -> None:
        self.size, self.device = size, device
        self.clear()

    def clear(self) -> None:
        """All of them are free; slot 0 is SGLang's padding."""
        self._free = torch.arange(1, self.size + 1, dtype=torch.int64, device=self.device)

    def available_size(self) -> int:
        """Free slots."""
        return self._free.numel()

    def take(self, n: int) -> torch.Tensor:
        """n free slots, (n,) int64."""
        taken, self._free = self._free[:n], self._free[n:]
        return taken

    def free(self, slots: torch.Tensor) -> None:
        """Give slots back, (n,)."""
        if slots.numel():
            self._free = torch.cat([self._free, slots.to(torch.int64)])

    def free_segment(self, slots: torch.Tensor, start_pos: int = 0) -> None:
        """As the tree calls it."""
        self.free(slots)


@dataclass
class _Row:
    request: Any
    prompt: Sequence[int]
    node: Any  # of the tree, locked
    shared: int  # tokens whose slots the tree owns
    length: int  # tokens that have keys and values
    allocated: int
    ids: list[int]  # of the request when it was admitted
    retractions: int


class BaseSide:
    """Sequences of the base model.

    Args:
        pool: SGLang's `ReqToTokenPool` of the base model's own.
        size: slots.
        device: of the tensors.
    """

    def __init__(self, pool: Any, size: int, device: str) -> None:
        self._pool = pool
        self.slots = Slots(size, device)
        self.tree = places.radix_tree(pool, self.slots)
        self._rows: dict[int, _Row] = {}

    @property
    def table(self) -> torch.Tensor:
        """(rows, context) slots of each sequence's tokens."""
        table: torch.Tensor = self._pool.req_to_token
        return table

    @property
    def available(self) -> int:
        """Slots that are free or that the tree would give up."""
        return self.slots.available_size() + int(self.tree.evictable_size())

    def lengths(self, rows: Iterable[int]) -> list[int]:
        """Tokens with keys and values of each row."""
        return [self._rows[row].length for row in rows]

    def sweep(self) -> None:
        """Free the rows whose requests are gone: finished, aborted or retracted."""
        for index in [index for index, row in self._rows.items() if _is_gone(row, index)]:
            self.release(index)

    def needed(self, row: int | None, n: int) -> int:
        """Slots that a row lacks for n more tokens."""
        found = None if row is None else self._rows.get(row)
        return max(0, found.length + n - found.allocated) if found is not None else n

    def reserve(self, row: int, n: int) -> None:
        """Make room for n more tokens in a row.

        Raises:
            MemoryError: the pool is full.
        """
        found = self._rows[row]
        lacking = found.length + n - found.allocated
        if lacking > 0:
            if self.slots.available_size() < lacking:
                places.evict(self.tree, lacking - self.slots.available_size())
            if self.slots.available_size() < lacking:
                raise MemoryError("the base model's pool of keys and values is full")
            self.table[row, found.allocated : found.allocated + lacking] = self.slots.take(lacking).to(torch.int32)
            found.allocated += lacking

    def is_of(self, row: int, request: Any) -> bool:
        """Whether a row belongs to a request that was not retracted since it got it."""
        found = self._rows.get(row)
        return found is not None and found.request is request and found.retractions == request.retraction_count

    def admit(self, row: int, request: Any, prompt: Sequence[int]) -> int:
        """Give a row to a request, with room for its prompt and what it has emitted; returns how many of them are cached.

        Raises:
            MemoryError: the pool is full.
        """
        self.release(row)
        ids = [*prompt, *request.output_ids]
        node, cached = places.matched(self.tree, array("q", ids[:-1]))
        self.tree.inc_lock_ref(node)
        n = cached.numel()
        self._rows[row] = _Row(request, list(prompt), node, n, n, n, ids, request.retraction_count)
        if n:
            self.table[row, :n] = cached.to(torch.int32)
        try:
            self.reserve(row, len(ids) - n)
        except MemoryError:
            self.release(row)
            raise
        return n

    def unread(self, row: int) -> tuple[list[int], int]:
        """The ids that the base model has still to read of a request's beginning, at least one, and how many it has."""
        found = self._rows[row]
        return found.ids[found.length :], found.length

    def extend(self, row: int, n: int) -> None:
        """n more tokens of a row have keys and values."""
        self._rows[row].length += n

    def release(self, index: int) -> None:
        """Free a row; what has keys and values stays in the tree until its slots are needed."""
        row = self._rows.pop(index, None)
        if row is None:
            return
        ids = [*row.prompt, *row.request.output_ids][: row.length]
        values = self.table[index, : len(ids)].to(torch.int64).clone()
        if ids:
            known = places.insert(self.tree, array("q", ids), values)
            self.slots.free(values[row.shared : known])  # the tree had these already
        rest = slice(max(len(ids), row.shared), row.allocated)
        self.slots.free(self.table[index, rest].to(torch.int64).clone())
        self.tree.dec_lock_ref(row.node)

    def clear(self) -> None:
        """Forget everything; no request is running."""
        self._rows.clear()
        self.slots.clear()
        self.tree.reset()


def _is_gone(row: _Row, index: int) -> bool:
    request = row.request
    return bool(
        request.finished()
        or request.is_retracted
        or request.retraction_count != row.retractions
        or places.row_of(request) != index
    )
