"""Rows of a file, each with the place that an error names; what is no row is complained of, and the others are read."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from rrti_sgl import bounds
from rrti_sgl.rows.cells import Place, Row, unstorable
from rrti_sgl.rows.complaints import Complaints
from rrti_sgl.rows.opening import DAMAGE, UnpacksTooFarError, most_bytes, open_text

_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_BATCH_ROWS, _BATCH_BYTES = 4096, 1 << 28
_LONGEST_CELL = 2**31 - 1  # what a C long holds on every system
_NO_VALUE = (ValueError, OverflowError, LookupError)  # no text, a time after the year 9999, an unknown time zone


def rows_of(path: Path, complaints: Complaints, kind: str | None = None) -> Iterator[tuple[Place, Row]]:
    """(place, row) of every row of a file.

    Args:
        path: the file.
        complaints: where lines go that are no rows.
        kind: "jsonl", "csv" or "parquet"; None goes by the ending, and takes JSON where that says nothing.
    """
    kind = kind or kind_of(path)
    if kind == "parquet":
        yield from _parquet(path, complaints)
        return
    named = ""
    try:
        with open_text(path) as text:
            for (number, unit), row in _TEXT_READERS[kind](path, text, complaints):
                named = f"{path}, {unit} {number}"
                if (fault := unstorable(row)) is None:
                    yield named, row
                else:
                    complaints.add(named, *fault)
    except (*DAMAGE, UnicodeError) as error:
        after, reason = " after that" if named else "", error or "it ends early"
        complaints.add(named or str(path), f"the file is damaged{after} ({reason})")


def find_file(stem: Path) -> Path | None:
    """The file of that name with any ending that is read here, compressed or not."""
    endings = (ending + compressed for compressed in ("", *_COMPRESSED) for ending in ENDINGS)
    return next((place for ending in endings if (place := stem.with_name(stem.name + ending)).is_file()), None)


def kind_of(path: Path) -> str:
    """How the rows of a file are read: "jsonl", "csv" or "parquet", by its ending; JSON where that says nothing."""
    return ENDINGS.get(Path(_uncompressed(path.name)).suffix.lower(), "jsonl")


def name_of(path: Path) -> str:
    """What a file is called, without the endings that say how it is read."""
    name = _uncompressed(path.name)
    return Path(name).stem if Path(name).suffix.lower() in ENDINGS or name == path.name else name


def _uncompressed(name: str) -> str:
    return Path(name).stem if Path(name).suffix.lower() in _COMPRESSED else name


def _json(path: Path, text: IO[str], complaints: Complaints) -> Iterator[tuple[tuple[int, str], Row]]:
    """The objects of JSON Lines, or of one list."""
    lines: Iterator[tuple[int, str]] = ((number, line) for number, line in enumerate(text, 1) if line.strip())
    first = list(itertools.islice(lines, 1))
    lines = itertools.chain(first, lines)
    if first and first[0][1].lstrip().startswith("["):
        every = list(lines)
        with contextlib.suppress(ValueError, RecursionError):
            listed = json.loads("".join(line for _, line in every))
            yield from _objects(((number, row) for number, row in enumerate(listed, 1)), path, "item", complaints)
            return
        lines = iter(every)
    yield from _objects(_parsed(lines, path, complaints), path, "line", complaints)


def _parsed(lines: Iterator[tuple[int, str]], path: Path, complaints: Complaints) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        try:
            yield number, json.loads(line.rstrip("\r\n"))
        except json.JSONDecodeError as error:
            foreign = any("\udc80" <= character <= "\udcff" for character in line)
            problem = "not UTF-8" if foreign else f"no valid JSON ({error.msg} at column {error.colno})"
            complaints.add(f"{path}, line {number}", problem, "Write one object a line, in UTF-8.")
        except (ValueError, RecursionError) as error:
            complaints.add(f"{path}, line {number}", f"no JSON that can be read ({error})")


def _objects(
    values: Iterator[tuple[int, Any]], path: Path, unit: str, complaints: Complaints
) -> Iterator[tuple[tuple[int, str], Row]]:
    for number, row in values:
        if isinstance(row, dict):
            yield (number, unit), row
        else:
            complaints.add(f"{path}, {unit} {number}", f"a {type(row).__name__}, not an object")


def _csv(path: Path, text: IO[str], complaints: Complaints) -> Iterator[tuple[tuple[int, str], Row]]:
    """Rows under a line of names, with commas, semicolons or tabs between; an empty cell is None."""
    header = text.readline()
    delimiter = max(",;\t", key=header.count)
    before = csv.field_size_limit(_LONGEST_CELL)  # the limit is the module's, and shorter than a solution may be
    reader = csv.DictReader(itertools.chain([header], text), strict=True, delimiter=delimiter)
    try:
        names = [name for name in reader.fieldnames or () if name]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            complaints.add(f"{path}, line 1", f"names {twice[0]!r} more than once", "Give each column a name of its own.")
            return
        for row in reader:
            if None in row or None in row.values():
                expected = len(reader.fieldnames or ())
                complaints.add(f"{path}, line {reader.line_num}", f"not {expected} fields, as the first line names")
                continue
            yield (reader.line_num, "line"), {name: value or None for name, value in row.items()}
    except csv.Error as error:
        complaints.add(f"{path}, line {reader.line_num}", f"no valid CSV after that ({error})")
    finally:
        csv.field_size_limit(before)


def _parquet(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as file:
            if (rows := file.metadata.num_rows) > bounds.COUNT:
                complaints.add(str(path), f"has {rows} rows, more than {bounds.COUNT}")
                return
            left = most_bytes(path.stat().st_size)
            for batch in file.iter_batches(batch_size=_rows_at_once(file.metadata, left)):
                for row in _batch_rows(batch):
                    number += 1
                    if isinstance(row, UnicodeDecodeError):
                        complaints.add(f"{path}, row {number}", "not UTF-8", "Save the file as UTF-8.")
                    elif isinstance(row, Exception):
                        complaints.add(f"{path}, row {number}", f"cannot be read ({row})")
                    else:
                        left -= _length(row)
                        if left < 0:
                            raise UnpacksTooFarError
                        yield f"{path}, row {number}", row
    except UnpacksTooFarError as error:
        complaints.add(str(path), f"cannot be read: {error}")
    except (pa.ArrowException, OSError) as error:
        complaints.add(str(path), f"is no Parquet file ({str(error).splitlines()[0]})")


def _rows_at_once(file: Any, most: int) -> int:
    """Rows of a Parquet file that fit in memory however they are packed: one text may stand in every row of a column.

    Raises:
        UnpacksTooFarError: the file unpacks to more than it may.
    """
    groups = [file.row_group(place) for place in range(file.num_row_groups)]
    if sum(group.total_byte_size for group in groups) > most:
        raise UnpacksTooFarError
    longest = max((group.column(i).total_uncompressed_size for group in groups for i in range(group.num_columns)), default=1)
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(longest, 1)))


def _length(value: Any) -> int:
    """Characters and bytes of the texts in a row."""
    match value:
        case str() | bytes():
            return len(value)
        case dict():
            return sum(map(_length, value.values()))
        case list():
            return sum(map(_length, value))
    return 8


def _batch_rows(batch: Any) -> Iterator[Row | Exception]:
    """The rows of a batch; for one that holds what Python has no value for, such as a text that is none, what it raises."""
    try:
        yield from batch.to_pylist()
    except _NO_VALUE:
        for number in range(batch.num_rows):
            try:
                yield batch.slice(number, 1).to_pylist()[0]
            except _NO_VALUE as error:
                yield error


_TEXT_READERS: dict[str, Callable[[Path, IO[str], Complaints], Iterator[tuple[tuple[int, str], Row]]]] = {
    "jsonl": _json,
    "csv": _csv,
}
ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
