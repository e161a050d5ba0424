"""Exported files hold exactly the rows of the query."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.exporting import rows_of, table_of
from rrti_sgl.programs.tables import formats
from rrti_sgl.programs.tables.formats import FORMATS
from rrti_sgl.programs.tables.table import stored_table

HOSTILE = r"a_b % c & d # e {f} ~ g ^ h \ i $ j | k < l > m [n] `o`, 中"


@pytest.fixture
def rows() -> pa.Table:
    columns = {
        "text": [HOSTILE, None, ""],
        "number": [0.1 + 0.2, 1e-300, None],
        "count": [2**53 + 1, -3, None],
        "flag": [True, None, False],
        "list": [[1, 2], None, []],
    }
    return pa.table(columns)


def test_parquet_and_arrow_are_the_rows(rows: pa.Table) -> None:
    assert pyarrow.parquet.read_table(io.BytesIO(formats.to_parquet(rows))).equals(rows)
    assert pa.ipc.open_file(io.BytesIO(formats.to_arrow(rows))).read_all().equals(rows)


def test_json_is_the_rows(rows: pa.Table) -> None:
    assert orjson.loads(FORMATS["json"].encode(stored_table(rows))) == rows.to_pylist()
    assert orjson.loads(formats.to_json([{"x": float("nan")}])) == [{"x": None}]
    total = pa.table({"x": pa.array([166098], pa.decimal128(38, 0)), "y": pa.array([Decimal("2.50")], pa.decimal128(9, 2))})
    assert b"".join(FORMATS["json"].encode(stored_table(total)).split()) == b'[{"x":166098,"y":2.5}]'


def test_csv_reads_back_to_the_last_bit(rows: pa.Table) -> None:
    options = pyarrow.csv.ConvertOptions(
        column_types={**{name: rows.schema.field(name).type for name in ("text", "number", "count", "flag")}},
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    read = pyarrow.csv.read_csv(io.BytesIO(formats.to_csv(rows)), convert_options=options)
    assert read.drop_columns("list").equals(rows.drop_columns("list"))
    assert read.column("list").to_pylist() == ["[1,2]", None, "[]"]
    tabs = pyarrow.csv.ParseOptions(delimiter="\t")
    separated = pyarrow.csv.read_csv(io.BytesIO(FORMATS["tsv"].encode(stored_table(rows))), parse_options=tabs)
    assert separated.column_names == rows.column_names
    assert separated.column("number").to_pylist() == rows.column("number").to_pylist()


def test_bare_texts_have_quotes_only_where_one_needs_them() -> None:
    assert formats.to_csv(pa.table({"a": ["x y", None], "n": [1, 2]}), bare=True) == b"a,n\nx y,1\n,2\n"
    for text in ("x,y", 'x"y', "x\ny", "x\ty", ""):
        read = list(csv.reader(io.StringIO(formats.to_csv(pa.table({"a": [text, "z"]}), bare=True).decode(), newline="")))
        assert read == [["a"], [text], ["z"]]


@pytest.mark.parametrize("source", ["sparsity", "runs", "sample_view", "SELECT token_text, ce FROM tokens ORDER BY ALL"])
def test_every_source_in_every_format(tiny_path: Path, tmp_path: Path, source: str) -> None:
    with Store.open_readonly(tiny_path) as store:
        expected, shown = rows_of(store, source), table_of(store, source)
    for name, format_ in FORMATS.items():
        out = tmp_path / f"export.{name}"
        done = CliRunner().invoke(app, ["export", source, "--format", name, "--out", str(out), "--db", str(tiny_path)])
        assert done.exit_code == 0, done.output
        assert format_.is_binary or out.read_bytes() == format_.encode(shown)
    assert pyarrow.parquet.read_table(tmp_path / "export.parquet").equals(expected)
    assert pa.ipc.open_file(tmp_path / "export.arrow").read_all().equals(expected)
    assert len(orjson.loads((tmp_path / "export.json").read_bytes())) == expected.num_rows


def test_a_statistic_takes_runs_and_parameters(tiny: Store) -> None:
    got = rows_of(tiny, "sparsity", run=["diagnose"], top=[0.5])
    assert got.equals(run_query(tiny, "sparsity", run=["diagnose"], top=[0.5]))


@pytest.mark.parametrize(
    ("source", "params", "message"),
    [
        ("sparsty", {}, "no statistic, table or view 'sparsty'.*sparsity.*token_view"),
        ("runs", {"run": ["x"]}, "Runs and parameters belong to a statistic; 'runs' is none"),
        ("SELECT 1", {"p": 1}, "belong to a statistic"),
    ],
)
def test_what_cannot_be_exported_is_named(tiny: Store, source: str, params: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        rows_of(tiny, source, **params)  # type: ignore[arg-type]


def test_stdout_is_the_default_and_formats_are_checked(tiny_path: Path) -> None:
    done = CliRunner().invoke(app, ["export", "SELECT 1 AS one", "--db", str(tiny_path)])
    assert done.stdout == "one\n1\n"
    wrong = CliRunner().invoke(app, ["export", "runs", "--format", "xls", "--db", str(tiny_path)])
    assert isinstance(wrong.exception, UsageError)
    assert "csv, json, parquet" in str(wrong.exception)


def test_a_terminal_is_not_sent_binary_files(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rrti_sgl.cli import export

    monkeypatch.setattr(export.sys.stdout.__class__, "isatty", lambda self: True, raising=False)
    with pytest.raises(UsageError, match="binary and standard output is a terminal"):
        export.export("runs", "parquet", Path("-"), tiny_path, None, None, 300.0, "1GB")


def test_known_columns_are_shown_as_what_they_are_and_selected_ones_as_they_are(tiny: Store) -> None:
    named = FORMATS["markdown"].encode(table_of(tiny, "run_view")).decode()
    selected = FORMATS["markdown"].encode(table_of(tiny, "SELECT accuracy FROM run_view WHERE program = 'guided'")).decode()
    assert "75.0%" in named
    assert "0.750" in selected
