"""Rows of JSONL, Parquet and CSV files, each with the place that an error names."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from rrti_sgl.errors import ProblemFileError
from rrti_sgl.problems.fields import Row


def rows_of(path: Path) -> Iterator[tuple[str, Row]]:
    """(place, row) of every row of a file; the ending decides how it is read, JSONL by default.

    Raises:
        ProblemFileError: the file is not what its ending says; names the line.
    """
    return READERS.get(path.suffix.lower(), _jsonl)(path)


def _jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(raw.decode())
            except UnicodeDecodeError as error:
                raise ProblemFileError(f"{place}: not UTF-8.", "Save the file as UTF-8.") from error
            except json.JSONDecodeError as error:
                raise ProblemFileError(
                    f"{place}: no valid JSON ({error.msg} at column {error.colno}).", "Write one object a line."
                ) from error
            if not isinstance(row, dict):
                raise ProblemFileError(f"{place}: a {type(row).__name__}, not an object.")
            yield place, row


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise ProblemFileError(f"{place}: not {len(reader.fieldnames or ())} fields, as the first line names.")
                yield place, {name: value or None for name, value in row.items()}
    except UnicodeDecodeError as error:
        raise ProblemFileError(f"{path}: not UTF-8.", "Save the file as UTF-8.") from error
    except csv.Error as error:
        raise ProblemFileError(f"{path}, line {reader.line_num}: no valid CSV ({error}).") from error


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ProblemFileError(f"{path} is no Parquet file ({str(error).splitlines()[0]}).") from error
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}, row {number}", row


READERS: dict[str, Callable[[Path], Iterator[tuple[str, Row]]]] = {
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
