"""Rows of files as Windows, pandas and the hub write them, and everything that may be wrong with one."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from rrti_sgl.errors import UsageError
from rrti_sgl.rows import Complaints, Row, find_file, name_of, rows_of

ROWS = [{"question": "wie groß ist „ä“?\u2028 second", "answer": "1,5"}, {"question": "2 + 2?", "answer": "4"}]


def read(path: Path) -> tuple[list[Row], list[str]]:
    """Rows, and what was complained of."""
    complaints = Complaints()
    rows = [row for _, row in rows_of(path, complaints)]
    return rows, [f"{place.removeprefix(str(path))}: {problem}" for place, problem in complaints.found]


def jsonl(rows: list[dict[str, Any]], end: str = "\n") -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + end for row in rows)


def csv(rows: list[dict[str, Any]], end: str = "\n", delimiter: str = ",") -> str:
    return pd.DataFrame(rows).to_csv(index=False, lineterminator=end, sep=delimiter)


def zipped(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows", content)
    return packed.getvalue()


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".zip": zipped,
}


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("compression", COMPRESSIONS, ids=lambda value: value or "plain")
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind", [".jsonl", ".csv", ".json"])
def test_encodings_and_compressions(tmp_path: Path, kind: str, encoding: str, compression: str, end: str) -> None:
    text = {".jsonl": jsonl, ".csv": csv, ".json": lambda rows, end: json.dumps(rows, indent=1).replace("\n", end)}[kind](
        ROWS, end
    )
    path = tmp_path / f"set{kind}{compression}"
    path.write_bytes(COMPRESSIONS[compression](text.encode(encoding)))
    assert read(path) == (ROWS, [])
    assert name_of(path) == "set"
    assert find_file(tmp_path / "set") == path


def test_the_bytes_tell_the_compression_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_bytes(gzip.compress(jsonl(ROWS).encode()))
    assert read(tmp_path / "set.jsonl") == (ROWS, [])
    two = zstandard.ZstdCompressor()
    (tmp_path / "frames.zst").write_bytes(b"".join(two.compress(jsonl([row]).encode()) for row in ROWS))
    assert read(tmp_path / "frames.zst") == (ROWS, [])


@pytest.mark.parametrize("compression", [None, "snappy", "gzip", "zstd", "brotli", "lz4"])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parquet(tmp_path: Path, compression: str | None, dictionary: bool) -> None:
    columns = {name: pa.array([row[name] for row in ROWS]) for name in ROWS[0]}
    if dictionary:
        columns = {name: column.dictionary_encode() for name, column in columns.items()}
    path = tmp_path / "set.parquet"
    pq.write_table(pa.table(columns), path, compression=compression or "none")
    assert read(path) == (ROWS, [])


@pytest.mark.parametrize("type_", [pa.large_string(), pa.string_view()])
def test_kinds_of_strings_in_parquet(tmp_path: Path, type_: pa.DataType) -> None:
    table = pa.table({name: pa.array([row[name] for row in ROWS], type_) for name in ROWS[0]})
    pq.write_table(table, tmp_path / "set.parquet")
    assert read(tmp_path / "set.parquet") == (ROWS, [])


def test_what_pandas_writes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"question": ["a?", None, "c?"], "answer": [1, None, 3], "level": pd.Categorical(["x", None, "y"])})
    rows = [{"question": "a?", "answer": 1.0, "level": "x"}, {"question": "c?", "answer": 3.0, "level": "y"}]
    frame.to_parquet(tmp_path / "set.parquet")
    frame.to_json(tmp_path / "set.jsonl.gz", orient="records", lines=True)
    frame.to_json(tmp_path / "set.json.zst", orient="records")
    for name in ("set.parquet", "set.jsonl.gz", "set.json.zst"):
        found, wrong = read(tmp_path / name)
        assert [found[0], found[2]] == rows
        assert found[1] == {"question": None, "answer": None, "level": None} or found[1]["answer"] != found[1]["answer"]
        assert wrong == []
    frame.to_csv(tmp_path / "set.csv.bz2", index=False)
    assert read(tmp_path / "set.csv.bz2")[0][2] == {"question": "c?", "answer": "3.0", "level": "y"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_of_csv(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "set.csv").write_text(csv(ROWS, delimiter=delimiter), encoding="utf-8-sig")
    assert read(tmp_path / "set.csv") == (ROWS, [])


def test_long_cells_and_lines_within_cells_of_csv(tmp_path: Path) -> None:
    rows = [{"question": "a\nb", "answer": "x" * 300_000}]
    (tmp_path / "set.csv").write_text(csv(rows))
    assert read(tmp_path / "set.csv") == (rows, [])


JSON_CASES = [
    (b"", [], []),
    (b'\n{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}], []),
    (b'{"a": 1}\n{"a": \n{"a": 3}', [{"a": 1}, {"a": 3}], [", line 2: no valid JSON (Expecting value at column 7)"]),
    (b'{"a": 1}\n[1]\n"x"\n', [{"a": 1}], [", line 2: a list, not an object", ", line 3: a str, not an object"]),
    (b'[{"a": 1}, 7, {"a": 2}]', [{"a": 1}, {"a": 2}], [", item 2: a int, not an object"]),
    (b'[1]\n{"a": 2}\n', [{"a": 2}], [", line 1: a list, not an object"]),
    (b'{"a": "\xe9"}\n{"a": 2}\n', [{"a": 2}], [", line 1: not UTF-8"]),
    (b'{"a": \xe9}\n{"a": 2}\n', [{"a": 2}], [", line 1: not UTF-8"]),
    (
        b'{"a": "so 9 \\ud83d"}\n{"a": 2}',
        [{"a": 2}],
        [r", line 1: field 'a' has half a character, '\ud83d': a lone surrogate"],
    ),
    (b'{"a": {"b": ["x", "\\ude00"]}}', [], [r", line 1: field 'a.b.1' has half a character, '\ude00': a lone surrogate"]),
    (b'{"a": "\\ud83d\\ude00"}', [{"a": "\U0001f600"}], []),
    (b'{"a": ' + b"[" * 100_000, [], [", line 1: no JSON that can be read"]),
    (b'{"a": ' + b"1" * 5000 + b"}", [], [", line 1: no JSON that can be read"]),
    (b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}\n{}", [{}], [", line 1: cannot be read (more than 100 levels"]),
]


@pytest.mark.parametrize(("content", "rows", "wrong"), JSON_CASES, ids=range(len(JSON_CASES)))
def test_json(tmp_path: Path, content: bytes, rows: list[Row], wrong: list[str]) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(content)
    found, complaints = read(path)
    assert found == rows
    assert len(complaints) == len(wrong)
    for complaint, beginning in zip(complaints, wrong, strict=True):
        assert complaint.startswith(beginning)


CSV_CASES = [
    (
        b"a,b\n1,2\n3,4,5\n6\n7,8\n",
        [{"a": "1", "b": "2"}, {"a": "7", "b": "8"}],
        [", line 3: not 2 fields", ", line 4: not 2"],
    ),
    (b"a,b\n1,\n", [{"a": "1", "b": None}], []),
    (b"a,b\n\xe9,1\n2,3\n", [{"a": "2", "b": "3"}], [", line 2: not UTF-8"]),
    (b'a,b\n1,2\n"x"y,3\n', [{"a": "1", "b": "2"}], [", line 2: no valid CSV after that"]),
    (b"a,b,a,,\n1,2,3,,\n", [], [", line 1: names 'a' more than once"]),
    (b"a,b,,\n1,2,,\n", [{"a": "1", "b": "2", "": None}], []),
    (b"", [], []),
]


@pytest.mark.parametrize(("content", "rows", "wrong"), CSV_CASES, ids=range(len(CSV_CASES)))
def test_csv(tmp_path: Path, content: bytes, rows: list[Row], wrong: list[str]) -> None:
    path = tmp_path / "set.csv"
    path.write_bytes(content)
    found, complaints = read(path)
    assert found == rows
    assert [complaint[: len(beginning)] for complaint, beginning in zip(complaints, wrong, strict=True)] == wrong


def test_a_row_of_parquet_whose_text_is_none(tmp_path: Path) -> None:
    raw = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    pq.write_table(pa.table({"a": raw}), tmp_path / "set.parquet")
    assert read(tmp_path / "set.parquet") == ([{"a": "a"}, {"a": "c"}], [", row 2: not UTF-8"])


@pytest.mark.parametrize(
    "column",
    [
        pa.array([None, 2**40, 0], pa.timestamp("s")),
        pa.array([None, 2**30, 0], pa.date32()),
        pa.array([None, 0, None], pa.timestamp("s", "Nowhere/No")),
    ],
)
def test_a_row_of_parquet_that_python_has_no_value_for(tmp_path: Path, column: pa.Array) -> None:
    pq.write_table(pa.table({"a": ["x", "y", "z"], "b": column}), tmp_path / "set.parquet")
    rows, [complaint] = read(tmp_path / "set.parquet")
    assert [row["a"] for row in rows] == ["x", "z"]
    assert complaint.startswith(", row 2: cannot be read (")


@pytest.mark.parametrize(("place", "bits", "message"), [(8, 1, "rows is encrypted"), (6, 99, "zip file version 11.9")])
def test_an_archive_that_nobody_here_can_read(tmp_path: Path, place: int, bits: int, message: str) -> None:
    content = bytearray(zipped(b"{}"))
    content[content.index(b"PK\x01\x02") + place] |= bits  # in the archive's directory: flags, the version that is needed
    (tmp_path / "set.zip").write_bytes(content)
    assert read(tmp_path / "set.zip") == ([], [f": the file is damaged ({message})"])


@pytest.mark.parametrize("name", ["set.parquet", "cut.jsonl.gz", "cut.jsonl.zst", "cut.jsonl.xz", "odd.jsonl"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    content = jsonl([{"a": f"{i} {hash(str(i))}"} for i in range(20_000)]).encode()
    compress = COMPRESSIONS.get(Path(name).suffix, bytes)
    damaged = {"set.parquet": b"PAR0", "odd.jsonl": "\ufeff{}".encode("utf-16-le") + b"\x00"}.get(
        name, compress(content)[:-9000]
    )
    (tmp_path / name).write_bytes(damaged)
    rows, [complaint] = read(tmp_path / name)
    assert len(rows) < 20_000
    assert ("is no Parquet file" if name == "set.parquet" else "the file is damaged") in complaint


def test_an_archive_of_several_files(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a", "{}")
        archive.writestr("b", "{}")
    with pytest.raises(UsageError, match="is an archive of 2 files"):
        read(tmp_path / "set.zip")


def test_what_a_file_is_called(tmp_path: Path) -> None:
    assert [name_of(Path(name)) for name in ("a.jsonl", "a.b.csv.gz", "a.txt", "a", "samples_2026-01.5.jsonl")] == [
        "a",
        "a.b",
        "a",
        "a",
        "samples_2026-01.5",
    ]
    assert find_file(tmp_path / "set") is None
