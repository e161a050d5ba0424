"""Command lines: every option that a command declares, with values that nobody would type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import typer
from hypothesis import strategies as st

from rrti_sgl.cli.main import app

DEEP = 20_000
NUMBERS = (
    *("-1", "0", "1", "2", "3", "64", "0.5", "1.0", "-0.0", "1e-300", "1e308", "1e400", "nan", "-nan", "inf", "-inf", "NaN"),
    *("1" * 10, "9" * 19, "9" * 23, "-" + "9" * 23, "7" * 6000, "0x10", "1_000", "1,5", "٣", "½", "1e", "--1", " 1 ", "+1"),
)
TEXTS = (
    *(
        "",
        " ",
        "-",
        "--",
        "---",
        ".",
        "..",
        "~",
        "*",
        "?",
        "%",
        "%s",
        "{}",
        "{question}",
        "{0.__class__}",
        "{question",
        "}{",
    ),
    *(
        "\udcff",
        "a\udc80b",
        "\x1b[2J\x1b]0;owned\x07",
        "\x9b31m",
        "\x07\x08\x7f",
        "\n",
        "\r\n",
        "\t",
        "\u202e\u2066",
        "\ufeff",
    ),
    *(
        "x" * 300,
        "y" * 5000,
        "\U0001f30a" * 90,
        "A\u0301" * 200,
        "'",
        '"',
        "\"'",
        "a 'b",
        'a "b',
        "\\",
        "a\\",
        "$(id)",
        "`id`",
    ),
    *("null", "true", "None", "[]", "{}", "[1", '{"a": 1', '"', "[" * DEEP, '{"a":' * DEEP, "[" * 900 + "]" * 900),
    *(":memory:", "store.duckdb/x", "store.duckdb", "good.jsonl", "folder", "folder/", "folder/new/er", "none.duckdb"),
    *("none/none.duckdb", "../x", "x/../../x", "a" * 200 + "/b", "/" + "n" * 300, "file:store.duckdb", "md:x", "s3://a/b"),
    *(
        "'; DROP TABLE runs; --",
        "1 OR 1=1",
        "%_%",
        "run-a' UNION SELECT 1",
        "runs",
        "tokens",
        "run-a",
        "run-b",
        "run",
        "guided",
    ),
    *(
        "base",
        "diagnose",
        "ce",
        "kl",
        "score",
        "accuracy",
        "tau=1",
        "tau=nan",
        "=1",
        "a=",
        "=",
        "==",
        "a=b=c",
        "tau=[",
        "\x1b=1",
    ),
    *("tau=" + "7" * 6000, "tau=" + "[" * DEEP, "tau=9e99999", 'tau={"a":NaN}', "bins=-1", "bins=1e99", "resamples=nan"),
    *(
        "os:system",
        "no.such:Class",
        "os:",
        ":os",
        "os.path",
        "builtins:int",
        "os:path:x",
        "__main__:x",
        "world:heldout",
        "world:",
    ),
    *(
        "world:nothing",
        "last-number",
        "choice",
        "chunked",
        "all",
        "csv",
        "json",
        "parquet",
        "latex",
        "1GB",
        "0GB",
        "-1GB",
        "1e9GB",
    ),
    *(
        "http://",
        "http://127.0.0.1:9",
        "http://[::1",
        "ftp://x",
        "http://127.0.0.1:99999",
        "http://\x1b",
        "x.svg",
        "x.csv",
        "x.png",
    ),
)
QUERIES = (
    *("SELECT 1 a, 2 a", "SELECT", "SELECT 'x", "SELECT * FROM nothing", "FROM runs", "SELECT 1; SELECT 2", ";", "--", "/*"),
    *("SELECT nan, 'inf'::DOUBLE", "SELECT 'infinity'::TIMESTAMP, '-infinity'::DATE", "SELECT '290000-01-01'::TIMESTAMP"),
    *(
        "SELECT [1.5::DECIMAL(4,2), NULL]",
        "SELECT {'a': {'b': [MAP {1: 2}]}}",
        "SELECT 1e38::DECIMAL(38,0)",
        "SELECT 2::HUGEINT^120",
    ),
    *(
        "SELECT '\\x00\\xff'::BLOB",
        "SELECT chr(27) || chr(155)",
        "SELECT chr(0)",
        "SELECT INTERVAL 1 YEAR",
        "SELECT '1'::BIT",
    ),
    *(
        "SELECT uuid()",
        "SELECT 'a'::ENUM('a','b')",
        "SELECT union_value(a := 1)",
        "SELECT time '24:00:00'",
        "PRAGMA version",
    ),
    *("SELECT now()::TIMESTAMP_NS", "SELECT '1 day'::INTERVAL[]", "SELECT * FROM range(3)", "SELECT 1 WHERE false"),
    *(
        "ATTACH 'x' AS y",
        "COPY runs TO 'x'",
        "SELECT * FROM 'store.duckdb'",
        "SELECT * FROM read_text('*')",
        "INSTALL httpfs",
    ),
    *(
        "SELECT getenv('HOME')",
        "SET memory_limit='1TB'",
        "CALL pragma_version()",
        "EXPLAIN SELECT 1",
        "DESCRIBE runs",
        "SHOW TABLES",
    ),
    *(
        "SELECT " + "(" * 3000 + "1" + ")" * 3000,
        "SELECT " + "1+" * 20000 + "1",
        "SELECT 1 AS " + "n" * 4000,
        'SELECT 1 AS ""',
    ),
    *(
        "SELECT error('\x1b')",
        "SELECT '\x1b' AS \"\x1b\"",
        "SELECT '\udcff'",
        "SELECT 1/0",
        "SELECT 'x'::INT",
        "SELECT -1::UTINYINT",
    ),
    *(
        "SELECT * FROM tokens",
        "SELECT * FROM run_view",
        "SELECT count(*) FROM samples",
        "SELECT $1",
        "SELECT ?",
        "SELECT :a",
    ),
)
DB = ("--db", "store.duckdb")
# What a command is given beside what is drawn: enough to go on to where it works.
BASES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "sql": (("SELECT run_id FROM runs", *DB),),
    "stats": tuple((name, *DB) for name in ("accuracy", "sparsity", "planning", "takeovers", "cost", "metrics")),
    "runs": (DB, ("base", *DB)),
    "samples": (DB, ("run-a", "--flipped", *DB)),
    "compare": (("run-a", "run-b", *DB), ("base", "guided", *DB)),
    "show": (("SAMPLE", *DB), ("SAMPLE", "--tokens", *DB)),
    "report": (("--db", "empty.duckdb", "--out", "out"), ("nothing", *DB, "--out", "out")),
    "whatif": (("run-a", *DB), ("run-a", "--tau", "1", *DB)),
    "export": (("runs", *DB), ("accuracy", "--format", "latex", *DB), ("SELECT 1 AS a", "--out", "out.csv", *DB)),
    "grade": (("run-a", "--grader", "last-number", "--dry-run", *DB), ("run-a", "--grader", "choice", *DB)),
    "experiment": (("good.toml", "--dry-run"), ("demo", "--print"), ("demo", "--dry-run")),
    "run": (("guided", *DB), ("base", *DB), ("--resume", "run-b", *DB)),
    "calibrate": ((*DB,), ("--from-run", "run-a", *DB)),
    "counterfactual": (("SAMPLE", *DB),),
    "score": (("--input", "good.jsonl", *DB), ("--input", "texts.csv", *DB)),
    "db info": (("store.duckdb",),),
    "db check": (("store.duckdb",),),
    "db seal": (("run-a", "store.duckdb"),),
    "db unseal": (("run-s", "store.duckdb"),),
    "db delete": (("run-a", "store.duckdb", "--yes"), ("run-s", "store.duckdb", "--yes"), ("run-a", "store.duckdb")),
    "db attach": (("folder", "store.duckdb"), ("sealed", "empty.duckdb")),
    "db upgrade": (("store.duckdb",),),
    "db downgrade": (("base", "store.duckdb", "--yes"), ("0001", "store.duckdb")),
    "db vacuum": (("store.duckdb",),),
    "db snapshot": (("store.duckdb", "--timeout", "0.01"),),
    "db precision": (("exact", "store.duckdb"),),
}
# Half of what is drawn: the commands with the most options.
OFTEN = ("run", "score", "calibrate", "sql", "stats", "whatif", "export")
WRITING = {"run", "calibrate", "score", "counterfactual", "grade"}
WRITING |= {f"db {name}" for name in ("seal", "unseal", "delete", "attach", "upgrade", "downgrade", "vacuum", "precision")}


@cache
def declared() -> dict[str, tuple[tuple[str, str], ...]]:
    """Options of every command, as `--name` and what is typed after it: nothing, a number or a text."""
    return {name: tuple(_options(command)) for name, command in _commands(typer.main.get_command(app), ())}


def declared_paths() -> set[str]:
    """Options and arguments of all commands that are paths."""
    found = _commands(typer.main.get_command(app), ())
    return {entry.opts[0] for _, command in found for entry in command.params if entry.bare_type() in ("Path", "path")}


def _commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "list_commands"):
        for name in command.list_commands(None):
            yield from _commands(command.get_command(None, name), (*path, name))
    else:
        yield " ".join(path), command


def _options(command: Any) -> Iterator[tuple[str, str]]:
    for parameter in command.params:
        if parameter.param_type_name == "option":
            number = parameter.bare_type() in ("int", "float")
            for flag in (*parameter.opts, *parameter.secondary_opts):
                yield flag, "" if parameter.is_flag else "number" if number else "text"


@st.composite
def commands(draw: st.DrawFn, sample: str) -> tuple[str, list[str]]:
    """A command's name, and its arguments with one to three changes."""
    name = draw(st.sampled_from([*BASES, *OFTEN]))
    arguments = [sample if given == "SAMPLE" else given for given in draw(st.sampled_from(BASES[name]))]
    for _ in range(draw(st.integers(1, 3))):
        places = [place for place, given in enumerate(arguments) if not given.startswith("--")]
        change = draw(st.integers(0, 9))
        if change < 7 and declared()[name]:
            flag, kind = draw(st.sampled_from(declared()[name]))
            usual = kind != "number" or draw(st.integers(0, 4)) > 0
            pool = st.sampled_from(NUMBERS) if kind == "number" and usual else value()
            arguments += [flag] if not kind else [flag, draw(pool)] if draw(st.booleans()) else [f"{flag}={draw(pool)}"]
        elif change < 9 and places:
            query = name in ("sql", "export") and draw(st.integers(0, 3)) > 0
            arguments[draw(st.sampled_from(places))] = draw(st.sampled_from(QUERIES) if query else value())
        else:
            arguments.append(draw(value()))
    return name, [*name.split(), *arguments]


def value() -> st.SearchStrategy[str]:
    """A value of an option or an argument, as the system passes one on: without NUL."""
    drawn = st.text(st.characters(exclude_characters="\0"), max_size=20).filter(lambda text: not text.startswith("/"))
    return st.one_of(st.sampled_from(TEXTS), st.sampled_from(TEXTS), st.sampled_from(NUMBERS), drawn)
