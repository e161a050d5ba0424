"""Where queries put what is more than their memory: a folder of the process among the temporary files, gone with it.

DuckDB removes its temporary files when a database is closed, not when its process is killed. The folder is therefore locked
for as long as its process lives, and who makes one removes those that nobody holds any more. A folder beside the store would
not do: a store that is only read may lie where nothing can be written.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

PREFIX = "rrti-sgl-queries-"


def spill_folder(database: str) -> Path | None:
    """The folder for the temporary files of one database of this process, which DuckDB makes when it needs it.

    Args:
        database: tells the databases of this process apart; one that is opened twice has one folder.

    Returns:
        None where there is no folder for temporary files, or the system has no such locks: queries keep to their memory.
    """
    ours = _folder_of_process()
    return None if ours is None else ours / hashlib.sha256(database.encode(errors="surrogateescape")).hexdigest()[:16]


@cache
def _folder_of_process() -> Path | None:
    try:
        import fcntl

        remove_abandoned(Path(tempfile.gettempdir()))
        while True:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX))
            held = os.open(folder, os.O_RDONLY)  # until the process ends, however it does
            fcntl.flock(held, fcntl.LOCK_EX)
            if folder.exists():
                break
            os.close(held)  # another process took it for abandoned, in between
    except (ImportError, OSError):
        return None
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a process that was forked
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(within: Path) -> None:
    """Remove the folders of processes that are no more."""
    import fcntl

    for folder in within.glob(f"{PREFIX}*"):
        try:
            held = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
        except OSError:  # gone, or another user's
            continue
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # its process is at work, or the file system knows no locks
            pass
        finally:
            os.close(held)
