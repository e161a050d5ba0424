"""Checks of a store: counts, references, decisions against their evidence, and the bytes of sealed runs.

What is asked of the rows lies in `checks/*.sql`, one question a file; every row that a file returns is a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rrti_sgl.db import relations, sealing
from rrti_sgl.db.folders import Manifest
from rrti_sgl.errors import StoreError

CHECK_DIR = Path(__file__).resolve().parent / "checks"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: which check found it, in which run and sample (None: none in particular), and what."""

    check: str
    run_id: str | None
    sample_id: str | None
    finding: str


def check(store: Path) -> list[Finding]:
    """Everything that is wrong with a store, in order of the checks; empty when nothing is.

    Raises:
        StoreLockedError, StoreVersionError, StoreError: the store cannot be opened.
    """
    with sealing.open_for_upkeep(store, read_only=True) as connection:
        rows = connection.execute("SELECT run_id, n_samples, n_tokens FROM sealed_runs").fetchall()
        registered = {run_id: (n_samples, n_tokens) for run_id, n_samples, n_tokens in rows}
        found = list(_check_files(store, registered))
        if any(finding.check == "files" for finding in found):
            return found  # the views cannot be read while files are missing or unreadable
        if relations.is_moved(connection, store):
            raise StoreError(f"The store {store} was moved since it was last written.", f"Run: rrti db upgrade {store}")
        for path in sorted(CHECK_DIR.glob("*.sql")):
            rows = connection.execute(path.read_text(encoding="utf-8")).fetchall()
            found += [Finding(path.stem, *row) for row in rows]
    return found


def _check_files(store: Path, registered: dict[str, tuple[int, int]]) -> Iterator[Finding]:
    for run_id, counts in sorted(registered.items()):
        try:
            folder = relations.run_folder(store, run_id)
            manifest = Manifest.of_sealed(folder)
        except StoreError as error:
            yield Finding("files", run_id, None, error.message)
            continue
        yield from (Finding("files", run_id, None, line) for line in manifest.damage(folder))
        if counts != (manifest.n_samples, manifest.n_tokens):
            said = f"{counts[0]} samples and {counts[1]} tokens"
            yield Finding("counts", run_id, None, f"was sealed with {said}; its manifest says otherwise")
    for folder in relations.complete_folders(store):
        if folder.name not in registered:
            yield Finding("leftovers", folder.name, None, f"{folder} is not registered: seal the run again")
