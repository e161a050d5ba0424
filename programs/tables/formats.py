"""The rows of a table as bytes of a file: CSV, JSON, Parquet and the like with the numbers themselves, or a page's table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.tables import html, latex, markdown
from rrti_sgl.programs.tables.safe_text import json_text
from rrti_sgl.programs.tables.table import Table
from rrti_sgl.programs.tables.values import json_rows, json_value, python_rows, values_of, with_texts
from rrti_sgl.programs.tables.values import json_text as one_value


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: how a table becomes its bytes, and whether a terminal can show them."""

    name: str
    encode: Callable[[Table], bytes]
    is_binary: bool = False


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: there is none; the message names what there is.
    """
    if name not in FORMATS:
        raise UsageError(f"There is no format {name!r}.", f"Choose one of: {', '.join(FORMATS)}.")
    return FORMATS[name]


def format_of(path: Path) -> Format:
    """The format that a file's ending asks for.

    Raises:
        UsageError: none does.
    """
    ending = path.suffix.removeprefix(".").lower()
    named = {"tex": "latex", "md": "markdown", "feather": "arrow"}.get(ending, ending)
    if named not in FORMATS:
        raise UsageError(f"The ending of {path} is that of no format.", f"Name one: {', '.join(FORMATS)}.")
    return FORMATS[named]


def to_csv(data: pa.Table, delimiter: str = ",", *, bare: bool = False) -> bytes:
    """Values under a line of column names; NULL is empty; lists, structures, bytes and spans of time are as in JSON.

    Numbers have as many digits as it takes to read the same number back. Texts are in quotes; `bare` leaves these out where
    none needs them: then no text differs from NULL but by its letters.
    """
    import pyarrow.csv

    data = with_texts(data)
    flat = [column if _is_plain(column.type) else _as_json_text(column) for column in data.columns]
    header = io.StringIO()
    csv.writer(header, delimiter=delimiter, lineterminator="\n").writerow(data.column_names)
    sink = io.BytesIO()
    sink.write(header.getvalue().encode())
    style = "none" if bare and not any(map(_needs_quotes, flat)) else "needed"
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter=delimiter, quoting_style=style)
    pyarrow.csv.write_csv(pa.table(dict(zip(data.column_names, flat, strict=True))), sink, options)
    return sink.getvalue()


def to_json(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A list of row objects; NaN and infinities, which stand for what a statistic does not have, are null."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    return json_text(orjson.dumps([dict(row) for row in rows], default=json_value, option=options).decode()).encode()


def query_json(data: pa.Table) -> bytes:
    """The rows of a query as a list of objects, every value as it is: see `rrti_sgl.programs.tables.values`."""
    encoded = orjson.dumps(json_rows(data), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return json_text(encoded.decode()).encode()


def to_parquet(data: pa.Table) -> bytes:
    """Parquet, compressed with Zstandard."""
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(data, sink, compression="zstd")
    return sink.getvalue()


def to_arrow(data: pa.Table) -> bytes:
    """The Arrow file format (Feather 2)."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, data.schema) as writer:
        writer.write_table(data)
    return sink.getvalue()


FORMATS: Mapping[str, Format] = {
    format_.name: format_
    for format_ in (
        Format("csv", lambda table: to_csv(table.data)),
        Format("json", lambda table: to_json(python_rows(table.data))),
        Format("parquet", lambda table: to_parquet(table.data), is_binary=True),
        Format("arrow", lambda table: to_arrow(table.data), is_binary=True),
        Format("latex", lambda table: latex.tabular(table).encode()),
        Format("markdown", lambda table: f"{markdown.table_body(table)}\n".encode()),
        Format("tsv", lambda table: to_csv(table.data, "\t")),
        Format("html", lambda table: f"{html.table_block(table)}\n".encode()),
    )
}


def _needs_quotes(column: pa.ChunkedArray | pa.Array) -> bool:
    import pyarrow.compute as pc

    return pa.types.is_string(column.type) and bool(pc.any(pc.match_substring_regex(column, r'[",\t\r\n]|^$')).as_py())


def _is_plain(of: pa.DataType) -> bool:
    odd = (pa.types.is_nested, pa.types.is_union, pa.types.is_binary, pa.types.is_large_binary, pa.types.is_interval)
    return not any(is_odd(of) for is_odd in odd)


def _as_json_text(column: pa.ChunkedArray) -> pa.Array:
    values = values_of(column)
    return pa.array([None if value is None else one_value(value) for value in values], pa.string())
