"""Stores that earlier schema revisions wrote, kept packed; nothing of the package is imported."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

STORES = Path(__file__).parent / "stores"
REVISIONS = sorted(path.name.split(".")[0] for path in STORES.glob("*.duckdb.gz"))


def unpacked(revision: str, path: Path) -> Path:
    """The store of a revision at a path, with its sealed runs beside it."""
    path.write_bytes(gzip.decompress((STORES / f"{revision}.duckdb.gz").read_bytes()))
    sealed = STORES / f"{revision}.runs.tar.gz"
    if sealed.exists():
        with tarfile.open(sealed) as archive:
            for member in archive:
                content = archive.extractfile(member)  # `filter` of `extractall` came with Python 3.11.4
                if content is not None:
                    target = path.with_suffix(".runs").joinpath(*Path(member.name).parts[1:])
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read())
    return path
