"""What a table shows of its data, how it is cut to a terminal, and that one number looks the same in every table."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.cli.tables import print_json
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.report import make_report
from rrti_sgl.programs.tables.accuracy import accuracy_table
from rrti_sgl.programs.tables.formats import to_csv
from rrti_sgl.programs.tables.kinds import KINDS
from rrti_sgl.programs.tables.numbers import COUNT, SHARE
from rrti_sgl.programs.tables.statistics import printed_tables
from rrti_sgl.programs.tables.table import (
    NO_INTERVAL,
    Column,
    Table,
    is_bound,
    plain_table,
    rows_table,
    stored_table,
    text_of,
)


def printed(table: Table, width: int, encoding: str = "utf-8") -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    Console(file=stream, width=width, highlight=False).print(table)
    stream.seek(0)
    return stream.read()


def test_intervals_stand_behind_their_number() -> None:
    data = pa.table({"accuracy": [0.5, 0.25], "accuracy_low": [0.41, None], "accuracy_high": [0.6321, None]})
    table = plain_table("t", data)
    assert table.headings == ["accuracy [95 %]"]
    assert table.cells == [["50.0% [41.0, 63.2]"], ["25.0%"]]
    assert [note.split(":")[0] for note in table.all_notes] == ["In brackets", NO_INTERVAL.split(":")[0]]
    assert plain_table("t", data.slice(0, 1)).all_notes == table.all_notes[:1]
    alone = plain_table("t", data.slice(1))
    assert (alone.headings, alone.all_notes) == (["accuracy"], [NO_INTERVAL])
    assert rows_table("t", data.to_pylist(), [Column("accuracy_low", kind=SHARE)]).cells == [["41.0%"], ["–"]]


def test_rules_and_missing_values() -> None:
    data = pa.table({"source": ["measured", "measured", "published"], "x": [1.0, None, 2.0]})
    table = Table("t", "T", data, [Column("x")], rule_by="source")
    assert table.rules == [2]
    assert table.all_notes == ["–: not defined, or not published."]


def test_columns_beside_others_share_a_cell() -> None:
    rows = [{"recovery_accuracy": 0.86, "recovery_pass": 1.0}, {"recovery_accuracy": None, "recovery_pass": None}]
    table = rows_table("t", rows, [Column("recovery_accuracy", "recovery", beside=("recovery_pass",))])
    assert (table.headings, table.cells, table.is_numeric) == (["recovery"], [["86% / 100%"], ["– / –"]], [True])


def test_a_column_without_any_number_is_aligned_as_one() -> None:
    assert rows_table("t", [{"rho": None, "other": None}]).is_numeric == [True, False]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (True, "yes"), (False, "no"), ("a\nb\tc", "a\\nb\\tc"), ([1, None], "[1,null]"), ({"a": 1}, '{"a":1}')],
)
def test_what_is_no_number(value: Any, shown: str) -> None:
    assert text_of(value) == shown


def test_bounds_are_told_from_columns_that_end_alike() -> None:
    assert is_bound("x_low", ["x", "x_low", "x_high"])
    assert not is_bound("u_low", ["u_low", "u_high"])
    assert not is_bound("x_low", ["x", "x_low"])


def test_what_a_query_returns_is_shown_as_it_is() -> None:
    data = pa.table({"accuracy": [0.215], "n": [12345678], "total": pa.array([166098], pa.decimal128(38, 0)), "x": [1e-7]})
    assert stored_table(data).cells == [["0.215", "12345678", "166098", "1.00e−07"]]


# -- on a terminal --------------------------------------------------------------------------------------------------


def test_a_wide_table_is_cut_and_every_part_names_its_rows() -> None:
    row = {"run_id": "guided-20261126-141035-704d", "part": "overlap", **{f"n_{letter * 9}": 1234567 for letter in "abcdef"}}
    text = printed(rows_table("title", [row, row]), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("guided-20261126-141035-704d") == 2 * text.count("run id")
    assert text.count("1,234,567") == 12
    assert "…" not in text


def test_headings_are_broken_before_a_table_is_cut() -> None:
    rows = [{"metric": "ce", **{f"share of {letter * 4} tokens": 0.5 for letter in "abcdef"}}]
    assert printed(rows_table("", rows), 200).count("share of aaaa tokens") == 1
    narrow = printed(rows_table("", rows), 80)
    assert narrow.count("metric") == 1
    assert "share of aaaa tokens" not in narrow


def test_columns_stand_closer_before_a_table_is_cut() -> None:
    """A number that is one character longer than in the last run does not cut the table."""
    row = {name * 8: "x" * 8 for name in "abcdefg"}  # 7 of 8 and 6 gaps of 3: 74 of the 78 between the edges
    wide, close, cut = (printed(rows_table("", [row | {"g" * 8: "x" * n}]), 80).splitlines() for n in (12, 18, 19))
    assert [len(lines) for lines in (wide, close, cut)] == [5, 5, 10]
    assert "x   x" in wide[3]
    assert "x  x" in close[3]
    assert "x   x" not in close[3]
    assert max(map(len, close)) == 80


def test_long_texts_take_the_room_that_is_left() -> None:
    rows = [{"name": "sparsity", "question": "word " * 40}]
    lines = printed(rows_table("", rows), 80).splitlines()
    assert 75 < max(map(len, lines)) <= 80


def test_of_a_long_list_the_first_values_are_shown() -> None:
    rows = {"ids": [[46, 50, 48, *range(50)], [1, 2]], "logs": [[-0.050860319286584854, -3.1, math.nan, -9.0], None]}
    text = printed(stored_table(pa.table(rows)), 80)
    assert "[46, 50, 48, ...] (53)" in text
    assert "[1,2]" in text
    assert "[-0.0509, -3.1, nan, ...] (4)" in text
    assert to_csv(pa.table(rows), bare=True).decode().count("-0.050860319286584854") == 1  # data is whole


def test_a_terminal_without_the_characters_gets_others() -> None:
    table = rows_table("", [{"run": "–", "difference": -0.031, "accuracy": None}])
    assert "-3.1" in printed(table, 80)
    assert "–" in printed(table, 80)
    rows = [{"run": "a", "difference": -0.031, "accuracy": None}]
    text = printed(rows_table("", rows), 80, "latin-1")
    assert re.search(r"\ba\b.* -3\.1\b.* -\|", text)
    assert text.isascii()


# -- statistics -----------------------------------------------------------------------------------------------------


def test_every_number_of_every_statistic_has_a_kind(tiny: Store) -> None:
    seen = 0
    for name in QUERIES:
        try:
            data = run_query(tiny, name)
        except UsageError:
            continue
        seen += 1
        for field in data.schema:
            if pa.types.is_floating(field.type) and not is_bound(field.name, data.column_names):
                assert field.name in KINDS, f"{name}: say in programs/tables/kinds.py what the numbers of {field.name!r} are"
    assert seen > 8


def test_runs_with_many_rows_have_tables_of_their_own(tiny: Store) -> None:
    found = printed_tables("sparsity", "How concentrated?", run_query(tiny, "sparsity"))
    assert found[0].title.startswith("How concentrated?\nrun ")
    runs = {table.title.removeprefix("How concentrated?\n") for table in found}
    assert {f"run {run}-1, problem set tiny, metric ce" for run in ("diagnose", "guided")} < runs
    assert "run_id" not in [column.name for column in found[0].columns]
    [gini, *_] = [row for row in found[0].cells if row[0] == "gini"]
    assert gini[2].startswith("0.")
    assert all("%" in row[2] for row in found[0].cells if row[0] != "gini")


def test_runs_with_one_row_stand_in_one_table(tiny: Store) -> None:
    [found] = printed_tables("accuracy", "How good?", run_query(tiny, "accuracy", run=["base", "guided", "reasoning"]))
    assert [row[0] for row in found.cells] == ["base-1", "guided-1", "reasoning-1"]
    assert found.title == "How good?\nrun, problem set tiny"


@pytest.mark.usefixtures("drawn_once")
def test_a_number_looks_the_same_wherever_it_stands(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    ends = {"base": "base-1", "reasoning": "reasoning-1"}
    with Store.open_readonly(tiny_path) as store:
        data = run_query(store, "accuracy", run=["base-1", "guided-1", "reasoning-1"], **ends)
        report = make_report(store)
    rows = data.to_pylist()
    demonstrated = accuracy_table("t", rows, [row["run_id"] for row in rows])
    [stated] = [table for table in report.tables if table.name.startswith("accuracy")]
    shown = {}
    for table in (demonstrated, plain_table("accuracy", data), stated):
        names = [column.name.replace("rho_pooled", "rho") for column in table.columns]
        guided = next(row for row in table.cells if any(cell.startswith("guided") for cell in row))
        for name in ("accuracy", "changed", "recovery_accuracy"):
            shown.setdefault(name, set()).add(guided[names.index(name)].split(" ")[0])
    assert shown == {"accuracy": {"75.0%"}, "changed": {"0.042"}, "recovery_accuracy": {"67%"}}
    done = CliRunner().invoke(
        app, ["stats", "accuracy", "--db", str(tiny_path), "--run", "guided", "--format", "table", "--full"]
    )
    [line] = [line for line in done.stdout.splitlines() if "75.0% [" in line]
    assert re.search(r" 0\.167 +0\.042 +0\.0% +75\.0% \[19\.\d, 99\.\d\] ", line), "no interval of shares of tokens"
    assert "A number without brackets has no interval" in done.stdout


def test_json_has_the_numbers_themselves(capsys: pytest.CaptureFixture[str], tiny: Store) -> None:
    print_json(run_query(tiny, "accuracy", run=["guided"]).to_pylist())
    [row] = orjson.loads(capsys.readouterr().out)
    assert (row["accuracy"], row["n_samples"]) == (0.75, 4)
    assert COUNT.text(row["n_samples"]) == "4"


def test_a_table_of_a_part_of_a_run_says_so() -> None:
    data = pa.table({"run_id": ["a", "b"], "covered": [0.5, 1.0], "graded": [1.0, 1.0], "auroc": [0.25, 0.75]})
    table = plain_table("failure", data)
    assert [column.name for column in table.columns] == ["run_id", "covered", "auroc"]
    note = "Only 50.0% (a) of the tokens have the scores (covered): the numbers are of these, not of the run."
    assert table.necessary_notes == [note]
    assert note in table.all_notes
    assert note in " ".join(repr(table).split())
    whole = plain_table("failure", data.slice(1))
    assert [column.name for column in whole.columns] == ["run_id", "auroc"]
    assert not whole.necessary_notes
    # Columns that a page chooses itself do not keep it from being said.
    assert replace(table, columns=[Column("auroc")]).necessary_notes == [note]
