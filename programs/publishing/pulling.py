"""Pulling: sealed runs of a dataset repository become part of a store, compared with their manifests first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rrti_sgl.db import attaching, relations, run_ids
from rrti_sgl.db.attaching import Attached
from rrti_sgl.db.folders import Manifest
from rrti_sgl.errors import StoreError, UsageError, argument
from rrti_sgl.programs.publishing.repository import MAIN, Repository


@dataclass(frozen=True)
class Pulled:
    """What became of each run in the store, and the commit that they are of."""

    runs: list[Attached]
    commit: str


def pull(store: Path, name: str, *, runs: Sequence[str] = (), revision: str = MAIN) -> Pulled:
    """Take sealed runs of a dataset repository into a store, all of them or nothing; a store that is missing is made.

    Files go through the hub's cache on this machine: what is there is not fetched again. What the store has already is left
    as it is, so pulling twice changes nothing.

    Args:
        store: the DuckDB file; nobody else may have it open.
        name: OWNER/NAME of the repository.
        runs: ids; none: every run of the repository.
        revision: a branch, a tag or a commit.

    Raises:
        UsageError: there is no such repository, revision or run, or the token does not let one see it.
        StoreError: a file is not what its manifest says, or contradicts the store.
        StoreVersionError: the files are of a newer schema.
        StoreLockedError: another process has the store open.
        EndpointError: the hub cannot be reached, and the cache has not all of it.
    """
    repository = Repository(name, revision)
    wanted = [run_ids.checked(run) for run in runs]
    root = repository.download([f"runs/{run}/*" for run in wanted] or ["runs/*"])
    found = {folder.name: folder for folder in relations.complete_in(root / "runs")}
    if missing := [run for run in wanted if run not in found]:
        raise UsageError(
            f"The repository {name} has no run {missing[0]!r} at {revision}.",
            f"Its page lists them; without {argument('runs')} all are pulled.",
        )
    if not found:
        raise UsageError(f"The repository {name} has no sealed runs at {revision}.", "Name one that `rrti push` wrote.")
    chosen = [found[run] for run in dict.fromkeys(wanted or found)]
    for folder in chosen:
        if damage := Manifest.read(folder).damage(folder):
            raise StoreError(
                f"Run {folder.name} of {name} at {root.name[:12]} is not what its manifest says: {'; '.join(damage)}.",
                f"Nothing was attached. Delete {folder} and pull again; if that does not help, ask its owner.",
            )
    return Pulled(attaching.attach(store, chosen), root.name)
