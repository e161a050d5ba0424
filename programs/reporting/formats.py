"""The rows of a query as bytes of a file: CSV, JSON, Parquet, Arrow, LaTeX or Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting import latex, markdown
from rrti_sgl.programs.reporting.table import plain_table


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file: how rows become its bytes, and whether a terminal can show them."""

    name: str
    encode: Callable[[pa.Table], bytes]
    is_binary: bool = False


def find_format(name: str) -> Format:
    """The format of that name.

    Raises:
        UsageError: there is none; the message names what there is.
    """
    if name not in FORMATS:
        raise UsageError(f"There is no format {name!r}.", f"Choose one of: {', '.join(FORMATS)}.")
    return FORMATS[name]


def to_csv(data: pa.Table) -> bytes:
    """Comma-separated values under a line of column names; NULL is empty, lists and structures are JSON.

    Numbers have as many digits as it takes to read the same number back.
    """
    flat = [_as_json_text(column) if pa.types.is_nested(column.type) else column for column in data.columns]
    header = io.StringIO()
    csv.writer(header, lineterminator="\n").writerow(data.column_names)
    sink = io.BytesIO()
    sink.write(header.getvalue().encode())
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
    pyarrow.csv.write_csv(pa.table(dict(zip(data.column_names, flat, strict=True))), sink, options)
    return sink.getvalue()


def to_json(data: pa.Table) -> bytes:
    """A list of row objects; NaN and infinities are null."""
    return orjson.dumps(data.to_pylist(), default=_plain, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def to_parquet(data: pa.Table) -> bytes:
    """Parquet, compressed with Zstandard."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(data, sink, compression="zstd")
    return sink.getvalue()


def to_arrow(data: pa.Table) -> bytes:
    """The Arrow file format (Feather 2)."""
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, data.schema) as writer:
        writer.write_table(data)
    return sink.getvalue()


def to_latex(data: pa.Table) -> bytes:
    """A booktabs `tabular`."""
    return latex.tabular(plain_table("export", data, title="rrti export")).encode()


def to_markdown(data: pa.Table) -> bytes:
    """A table in GitHub's dialect."""
    return f"{markdown.table_body(plain_table('export', data))}\n".encode()


FORMATS: Mapping[str, Format] = {
    format_.name: format_
    for format_ in (
        Format("csv", to_csv),
        Format("json", to_json),
        Format("parquet", to_parquet, is_binary=True),
        Format("arrow", to_arrow, is_binary=True),
        Format("latex", to_latex),
        Format("markdown", to_markdown),
    )
}


def _as_json_text(column: pa.ChunkedArray) -> pa.Array:
    texts = [None if value is None else orjson.dumps(value, default=_plain).decode() for value in column.to_pylist()]
    return pa.array(texts, pa.string())


def _plain(value: Any) -> Any:
    return float(value) if isinstance(value, Decimal) else str(value)
