"""The folder that the pairs of a cluster write to and its driver merges from: what is in the store is gone from it."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO

from rrti_sgl.db import attaching, folders, relations, run_ids
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.store import Store
from rrti_sgl.errors import StoreError, StoreVersionError, argument
from rrti_sgl.programs.cluster.leases import Counted

logger = logging.getLogger(__name__)

_LEASES, _TOKENS = 100, 500_000  # that are merged together while a run goes on: half of a transaction, as parts vary
_SEEN_AFTER_S = 90  # NFS shows other machines' files once its attribute cache has expired, by default after 60 s at most


class SharedParts(AbstractContextManager["SharedParts"]):
    """The parts of one run, and the store that they are merged into; a context manager, as whose they are.

    Methods may be called from several threads.

    Args:
        folder: that all machines share.
        run_id: the run.
        store: open for writing, and may read the folder.
    """

    def __init__(self, folder: Path, run_id: str, store: Store) -> None:
        self._place, self._run_id, self._store = folder / run_ids.checked(run_id), run_id, store
        self._one_at_a_time = threading.Lock()
        self._leases = self._tokens = 0
        self._enough = asyncio.Event()
        self._damaged: list[Path] = []
        self._claim = ExitStack()

    def __enter__(self) -> SharedParts:
        """Make the run's folder, which members look for, and claim it: what one driver merges no other one finds.

        Raises:
            StoreError: it cannot be made, or another driver is at it.
        """
        try:
            self._place.mkdir(parents=True, exist_ok=True)
            folders.sync(self._place.parent)
            claim = self._claim.enter_context((self._place / ".driver").open("w"))
        except OSError as error:
            why = f"The folder {self._place} of the run's parts cannot be made ({error.strerror})."
            raise StoreError(why, "Name a folder that all machines share and may write.") from error
        if not _locked(claim):
            self._claim.close()
            why = f"Another process merges the parts of run {self._run_id} in {self._place.parent}."
            raise StoreError(why, f"Wait until it is done, or name another folder: {argument('parts')}.")
        return self

    def __exit__(self, *raised: object) -> None:
        """Let go of the folder."""
        self._claim.close()

    def merge(self) -> None:
        """Take every complete part into the store, and remove it then.

        Raises:
            StoreError: see `rrti_sgl.db.attaching.attach_parts`; parts that were not merged stay where they are.
        """
        with self._one_at_a_time:
            for parts in attaching.in_groups(self._sound()):
                attaching.attach_parts(self._store, self._run_id, parts)
                for part in parts:
                    folders.discard(part)

    def samples(self) -> set[str]:
        """Ids of the samples that are durable, all of which are in the store then. Raises as `merge` does."""
        self.merge()
        return self._store.finished_samples(self._run_id)

    def _sound(self) -> Iterator[tuple[Path, Manifest]]:
        """The complete parts. One that is damaged is put aside: its samples can be made anew."""
        for part in relations.complete_in(self._place):
            try:
                manifest = Manifest.read(part)
                manifest.check_revision(part)
                manifest.refuse_damage(part)
            except StoreVersionError:
                raise
            except StoreError as error:
                logger.warning("%s", error.message)
                aside = part.with_name(f".{part.name}.damaged")
                self._damaged.append(part.rename(aside))
            else:
                yield part, manifest

    def count(self, finished: Sequence[Counted]) -> None:
        """Note that a lease is finished, for `keep_merging`."""
        self._leases += 1
        self._tokens += sum(sample.n_tokens for sample in finished)
        if self._leases >= _LEASES or self._tokens >= _TOKENS:
            self._enough.set()

    async def keep_merging(self) -> None:
        """Merge whenever there is enough, until this is cancelled: little is left at the end of a run.

        Raises:
            StoreError: see `merge`.
        """
        while await self._enough.wait():
            self._leases = self._tokens = 0
            self._enough.clear()
            await asyncio.to_thread(self.merge)

    async def merge_all(self, expected: Collection[str]) -> None:
        """Merge until the store has all the samples that are said to be durable, and remove the run's folder.

        Raises:
            StoreError: some of them are in no part, or in one that is damaged; what is there is merged.
        """
        for _ in range(_SEEN_AFTER_S):
            missing = set(expected) - await asyncio.to_thread(self.samples)
            if not missing:
                self._claim.close()
                shutil.rmtree(self._place, ignore_errors=True)  # what killed members left half written, and nothing else
                return
            if self._damaged:
                raise StoreError(
                    f"{len(missing)} samples are lost with a part that is damaged, now {self._damaged[0]}.",
                    "Look to the file system. Run it again: what is missing is made anew.",
                )
            await asyncio.sleep(1)
        raise StoreError(
            f"{len(missing)} samples that were finished are in no part in {self._place}.",
            "Do all machines write to one folder? Run it again: what is missing is made anew.",
        )


def _locked(file: IO[str]) -> bool:
    """Lock a file until it is closed, which the death of the process does too. False: somebody else has it.

    Where the file system or the platform has no such locks, as if nobody had.
    """
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.info("%s cannot be locked: %s", file.name, error)
    return True
