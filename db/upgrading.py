"""Upgrading and downgrading a store file, with the errors that opening it would give and a copy kept until it is done."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rrti_sgl import migrations
from rrti_sgl.db import connection as opening
from rrti_sgl.db import snapshots
from rrti_sgl.errors import StoreError, StoreLockedError, UsageError

BACKUP = ".before-upgrade"


def current_revision(path: Path) -> str | None:
    """The schema revision of a file; None when it is missing or has no tables.

    Raises:
        StoreLockedError: another process holds the file.
        StoreVersionError: it is newer than this package.
        StoreError: it is no trace store.
    """
    if not opening.is_there(path):
        return None
    with opening.connect(path, read_only=False) as connection:
        revision = opening.revision_of(connection)
    if revision is not None:
        opening.refuse_newer(path, revision)
    return revision


def upgrade_file(path: Path, revision: str = "head") -> tuple[str | None, str]:
    """Bring a file to a revision, in one transaction and with a copy kept until that is done; creates it when missing.

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
    if before is not None and before > target:
        raise UsageError(f"The store {path} has schema {before} already.", f"Run: rrti db downgrade {target} {path}")
    opening.make_folder(path)
    with _kept_until_done(path, needed=before not in (None, target)):
        migrations.upgrade(path, target)
    if before != target:
        snapshots.discard(path)  # they are of the older schema, and the file itself can be read now
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
    older = ["base", *known[: known.index(before)]]
    if revision not in older:
        raise UsageError(f"Schema {before} cannot go back to {revision!r}.", f"Choose one of: {', '.join(older)}.")
    with _kept_until_done(path, needed=True):
        migrations.downgrade(path, revision)
    return before, None if revision == "base" else revision


@contextmanager
def _kept_until_done(path: Path, *, needed: bool) -> Iterator[None]:
    """Keep a copy of the file beside it while it is changed, and put the copy back if that fails.

    Raises:
        StoreError: a copy is there already: an earlier change was cut off, and which of the two files counts is for its
            owner to say.
    """
    copy = path.with_name(path.name + BACKUP)
    if copy.exists():
        raise StoreError(
            f"An earlier change of {path} was cut off; {copy} is the file from before it.",
            f"To go back: mv {copy} {path}. To keep the store as it is: delete the copy.",
        )
    if not needed:
        yield
        return
    partial = copy.with_name(copy.name + ".partial")
    shutil.copyfile(path, partial)
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(copy)
    try:
        yield
    except BaseException:
        if _is_held(path):  # somebody came in between: nothing was changed, and the file is theirs
            copy.unlink()
        else:
            path.with_name(path.name + ".wal").unlink(missing_ok=True)
            copy.replace(path)
        raise
    copy.unlink()


def _is_held(path: Path) -> bool:
    try:
        opening.connect(path, read_only=False).close()
    except StoreLockedError:
        return True
    except StoreError:
        return False
    return False
