"""Files that are small and hold far more than a text may: told so in a line, before the memory is taken."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from rrti_sgl import bounds
from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts.reading import read_texts
from rrti_sgl.rows import Complaints, opening, rows_of

BOMB = b"0" * 5_000_000
SOUND = b'{"question": "1 and 1?", "text": "2"}\n' * 20_000
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.compress,
}


def said(path: Path) -> str:
    complaints = Complaints()
    assert list(rows_of(path, complaints)) == []
    [complaint] = complaints.found
    return complaint.message if hasattr(complaint, "message") else str(complaint)


@pytest.mark.parametrize("ending", PACKERS)
def test_what_unpacks_to_far_more_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str) -> None:
    monkeypatch.setattr(opening, "_FLOOR", 2**20)
    (tmp_path / f"bomb.jsonl{ending}").write_bytes(PACKERS[ending](BOMB))
    assert "unpacks to more than 200 times its size" in said(tmp_path / f"bomb.jsonl{ending}")


@pytest.mark.parametrize("ending", PACKERS)
def test_what_unpacks_to_little_is_read_however_well_it_packs(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"fine.jsonl{ending}").write_bytes(PACKERS[ending](SOUND))
    assert len(read_texts(tmp_path / f"fine.jsonl{ending}")) == 20_000


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.eval"])
def test_members_of_archives_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(opening, "_FLOOR", 2**20)
    with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples/bomb_epoch_1.json", BOMB)
    with pytest.raises(UsageError, match="unpacks to more than 200 times its size"):
        read_texts(tmp_path / name)


def test_rows_of_parquet_are_counted_before_they_are_read(tmp_path: Path) -> None:
    rows = pa.table({"text": pa.array(["x"] * 1000).dictionary_encode()})
    with pq.ParquetWriter(tmp_path / "rows.parquet", rows.schema) as writer:
        for _ in range(bounds.COUNT // 1000 + 1):
            writer.write_table(rows)
    assert "has 1001000 rows, more than 1000000" in said(tmp_path / "rows.parquet")


@pytest.mark.parametrize("rows", [30, 300])
def test_one_long_text_in_every_row_of_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """A file of a kilobyte, whose rows would be hundreds of megabytes."""
    monkeypatch.setattr(opening, "_FLOOR", 2**24)
    table = pa.table({"question": ["x" * 1_000_000] * rows, "answer": ["1"] * rows})
    pq.write_table(table, tmp_path / "bomb.parquet", compression="zstd")
    assert (tmp_path / "bomb.parquet").stat().st_size < 10_000
    complaints = Complaints()
    assert sum(1 for _ in rows_of(tmp_path / "bomb.parquet", complaints)) == 16, "as many as may be"
    assert "unpacks to more than 200 times its size" in str(complaints.found)


def test_texts_that_repeat_are_read(tmp_path: Path) -> None:
    table = pa.table(
        {"question": ["why ?", None, "why ?", "how ?"] * 5000, "n": list(range(20_000)), "tags": [["a", "b"]] * 20_000}
    )
    pq.write_table(table, tmp_path / "fine.parquet")
    complaints = Complaints()
    rows = [row for _, row in rows_of(tmp_path / "fine.parquet", complaints)]
    assert rows[:3] == [
        {"question": "why ?", "n": 0, "tags": ["a", "b"]},
        {"question": None, "n": 1, "tags": ["a", "b"]},
        {"question": "why ?", "n": 2, "tags": ["a", "b"]},
    ]
    assert len(rows) == 20_000
    assert not complaints.found
