"""Every type that a query can give: as JSON, as CSV and in a terminal, none of them by the name that Python has for it."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.programs.tables.formats import query_json, to_csv
from rrti_sgl.programs.tables.table import stored_table

# (SQL, as JSON spells it)
VALUES: list[tuple[str, str]] = [
    ("(SELECT sum(n) FROM (VALUES (166097), (1)) AS t(n))", "166098"),
    ("170141183460469231731687303715884105727::HUGEINT", "170141183460469231731687303715884105727"),
    ("18446744073709551615::UBIGINT", "18446744073709551615"),
    ("(-9223372036854775808)::BIGINT", "-9223372036854775808"),
    ("1.50::DECIMAL(5, 2)", "1.5"),
    ("12345678901234567890.123456789012345678::DECIMAL(38, 18)", "12345678901234567890.123456789012345678"),
    ("0.1::DOUBLE", "0.1"),
    ("'NaN'::DOUBLE", '"NaN"'),
    ("'Infinity'::DOUBLE", '"Infinity"'),
    ("'-Infinity'::FLOAT", '"-Infinity"'),
    ("['NaN'::DOUBLE, NULL]", '["NaN",null]'),
    ("'\\xAA\\x00'::BLOB", '"aa00"'),
    ("INTERVAL '1 month 2 days 3.5 seconds'", '"P1M2DT3.5S"'),
    ("INTERVAL '-90 seconds'", '"P0M0DT-90S"'),
    ("DATE '2026-01-02'", '"2026-01-02"'),
    ("TIME '10:11:12.5'", '"10:11:12.500000"'),
    ("TIMESTAMP '2026-01-02 03:04:05.123456'", '"2026-01-02T03:04:05.123456"'),
    ("TIMESTAMP_NS '2026-01-02 03:04:05.123456789'", '"2026-01-02T03:04:05.123456789"'),
    ("'8eb9348b-f476-435f-aeec-957ae389b792'::UUID", '"8eb9348b-f476-435f-aeec-957ae389b792"'),
    ("MAP {'a': 1, 'b': NULL}", '{"a":1,"b":null}'),
    ("MAP {1: 'x'}", '{"1":"x"}'),
    ("{'x': 1::HUGEINT, 'y': [1.5::DECIMAL(3, 1), NULL]}", '{"x":1,"y":[1.5,null]}'),
    ("[DATE '2026-01-02']", '["2026-01-02"]'),
    ("[1, 2]::INTEGER[2]", "[1,2]"),
    ("'a'::ENUM ('a', 'b')", '"a"'),
    ("union_value(num := 2)", "2"),
    ("true", "true"),
    ("NULL", "null"),
    ("'{\"a\": 1}'::JSON", '"{\\"a\\": 1}"'),
    ("'null'", '"null"'),
]


def table(sql: str) -> pa.Table:
    return duckdb.sql(f"SELECT {sql} AS x UNION ALL SELECT NULL").to_arrow_table()


@pytest.mark.parametrize(("sql", "spelled"), VALUES, ids=[sql for sql, _ in VALUES])
def test_a_value_as_json_csv_and_text(sql: str, spelled: str) -> None:
    data = table(sql)
    assert b"".join(query_json(data).split()) == f'[{{"x":{"".join(spelled.split())}}},{{"x":null}}]'.encode()
    for shown in (to_csv(data, bare=True).decode(), stored_table(data).cells):
        assert not any(name in str(shown) for name in ("Decimal(", "MonthDayNano", "datetime.", "\\x"))


def test_totals_in_sql_are_whole_numbers(tiny: Store) -> None:
    [row] = json.loads(query_json(tiny.sql("SELECT sum(n_tokens) AS n, max(n_tokens) AS most FROM samples")))
    assert isinstance(row["n"], int)
    assert row["n"] >= row["most"] > 0


@pytest.mark.parametrize("value", [Decimal("1E+5"), 2**80, -(2**70), b"\xff", float("nan"), (1, 2), {1: Decimal("2.0")}])
def test_every_value_is_json(value: Any) -> None:
    from rrti_sgl.programs.tables.values import json_value

    json.loads(orjson.dumps(json_value(value)))
