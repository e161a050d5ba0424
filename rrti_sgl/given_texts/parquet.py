"""Parquet: one row a continuation, or a list of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts.complaints import Complaints
from rrti_sgl.given_texts.fields import Place, Row

_BATCH_ROWS = 4096


def rows(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, row) of every row, counted from 1; a Parquet file is whole or unreadable, so nothing is complained of.

    Raises:
        UsageError: the file cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path} is no Parquet file ({str(error).splitlines()[0]}).", "See --format.") from error
