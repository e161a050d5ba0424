"""Upgrading and downgrading a store file, with the errors that opening it would give."""

from __future__ import annotations

from pathlib import Path

from rrti_sgl import migrations
from rrti_sgl.db import connection as opening
from rrti_sgl.errors import StoreError, StoreVersionError, UsageError


def current_revision(path: Path) -> str | None:
    """The schema revision of a file; None when it is missing or has no tables.

    Raises:
        StoreLockedError: another process holds the file.
        StoreError: it is no trace store.
    """
    if not path.exists():
        return None
    with opening.connect(path, read_only=False) as connection:
        return opening.revision_of(connection)


def upgrade_file(path: Path, revision: str = "head") -> tuple[str | None, str]:
    """Bring a file to a revision, in one transaction; creates it when missing.

    Returns:
        The revisions before and after.

    Raises:
        UsageError: the revision is not known, or older than the file's.
        StoreVersionError: the file is newer than this package.
        StoreError: it is no trace store, or another process holds it.
    """
    known, before = migrations.revisions(), current_revision(path)
    target = known[-1] if revision == "head" else revision
    if target not in known:
        raise UsageError(f"There is no revision {revision!r}.", f"Choose one of: {', '.join(known)}, head.")
    if before is not None and before not in known:
        raise StoreVersionError(f"The store {path} has schema {before}, newer than {known[-1]}.", "Update rrti-sgl.")
    if before is not None and before > target:
        raise UsageError(f"The store {path} has schema {before} already.", f"Run: rrti db downgrade {target} {path}")
    path.parent.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(path, target)
    return before, target


def downgrade_file(path: Path, revision: str) -> tuple[str, str | None]:
    """Take a file back to an older revision ("base": no tables), in one transaction.

    Returns:
        The revisions before and after.

    Raises:
        UsageError: the revision is not older than the file's.
        StoreError: there is no file, it is no trace store, is empty, newer, or held by another process.
    """
    known, before = migrations.revisions(), current_revision(path)
    if before is None:
        raise StoreError(f"There is no store to downgrade at {path}.", "Name another file.")
    if before not in known:
        raise StoreVersionError(f"The store {path} has schema {before}, newer than {known[-1]}.", "Update rrti-sgl.")
    older = ["base", *known[: known.index(before)]]
    if revision not in older:
        raise UsageError(f"Schema {before} cannot go back to {revision!r}.", f"Choose one of: {', '.join(older)}.")
    migrations.downgrade(path, revision)
    return before, None if revision == "base" else revision
