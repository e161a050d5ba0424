"""The folder that the pairs of a cluster write to and its driver merges from: what is in the store is gone from it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from rrti_sgl.db import folders, relations, run_ids
from rrti_sgl.db.attaching import attach_parts
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.sinks.parquet_parts import samples_in
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError

# Parts and tokens of one transaction: bounded memory, and not everything again after an error (docs/performance.md).
_AT_ONCE, _TOKENS_AT_ONCE = 200, 1_000_000
_SEEN_AFTER_S = 90  # NFS shows other machines' files once its attribute cache has expired, by default after 60 s at most


class SharedParts:
    """The parts of one run.

    Args:
        folder: that all machines share.
        run_id: the run.
    """

    def __init__(self, folder: Path, run_id: str) -> None:
        self._place = folder / run_ids.checked(run_id)

    def make(self) -> None:
        """Make the run's folder, which members look for.

        Raises:
            StoreError: it cannot be made.
        """
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            folders.sync(self._place.parent)
        except OSError as error:
            why = f"The folder {self._place} of the run's parts cannot be made ({error.strerror})."
            raise StoreError(why, "Name a folder that all machines share and may write.") from error

    def samples(self) -> frozenset[str]:
        """Ids of the samples that are durable and not merged."""
        return samples_in(self._place)

    def merge(self, store: Store) -> None:
        """Take every complete part into the store, and remove it then.

        Raises:
            StoreError: see `rrti_sgl.db.attaching.attach`; parts that were not merged stay where they are.
        """
        for chosen in _transactions(relations.complete_in(self._place)):
            attach_parts(store, chosen)
            for part in chosen:
                folders.discard(part)

    async def merge_all(self, store: Store, expected: Collection[str], run_id: str) -> None:
        """Merge until the store has all the samples that are said to be durable, and remove the run's folder.

        Raises:
            StoreError: some of them are in no part; what is there is merged.
        """
        for _ in range(_SEEN_AFTER_S):
            await asyncio.to_thread(self.merge, store)
            missing = set(expected) - set(store.finished_samples(run_id))
            if not missing:
                shutil.rmtree(self._place, ignore_errors=True)  # what killed members left half written, and nothing else
                return
            await asyncio.sleep(1)
        raise StoreError(
            f"{len(missing)} samples that were finished are in no part in {self._place}.",
            "Do all machines write to one folder? Run it again: what is missing is made anew.",
        )


def _transactions(parts: Sequence[Path]) -> Iterator[list[Path]]:
    chosen: list[Path] = []
    tokens = 0
    for part in parts:
        n_tokens = Manifest.read(part).n_tokens
        if chosen and (len(chosen) == _AT_ONCE or tokens + n_tokens > _TOKENS_AT_ONCE):
            yield chosen
            chosen, tokens = [], 0
        chosen.append(part)
        tokens += n_tokens
    if chosen:
        yield chosen
