"""Bad input: one clear line that names field, value and remedy, an exit code of its own, and no traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from rrti_sgl.cli import main
from rrti_sgl.db.store import Store

RRTI = [sys.executable, "-m", "rrti_sgl.cli.main"]


def rrti(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*RRTI, *arguments], cwd=cwd, capture_output=True, text=True)


NO_SERVER = ["--base-url", "http://127.0.0.1:9", "--reasoning-url", "http://127.0.0.1:9"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "guded"], 2, r"Program 'guded' is unknown.*\n.*Use one of base, "),
        (["run"], 2, "Either a program or --resume"),
        (["run", "base", "--k", "-1"], 2, "--k -1 is too small"),
        (["run", "base", "--samples", "0"], 2, "--samples 0 is too small"),
        (["run", "base", "--max-new-tokens", "0"], 2, "--max-new-tokens 0 is too small"),
        (["run", "base", "--temperature", "-2"], 2, "--temperature -2.0 is too small"),
        (["run", "base", "--top-p", "1.5"], 2, r"--top-p 1.5 is too large.*\n.*Use at most 1\."),
        (["run", "guided", "--metric", "cosine"], 2, "--metric 'cosine' is unknown"),
        (["run", "guided", "--decoding", "fast"], 2, "--decoding 'fast' is unknown.*\n.*Use one of chunked, "),
        (["run", "base", "--k", "-1", "--samples", "0"], 2, "--samples 0 is too small.*--k -1 is too small"),
        (["run", "base", "--resume", "base-1", "--lambda"], 2, "Either a program or --resume"),
        (["run", "--resume", "base-1", "--lambda"], 2, "--lambda cannot be given"),
        (["run", "counterfactual", "--sample", "6509"], 2, r"a command of its own.*\n.*rrti counterfactual SAMPLE"),
        (["counterfactual", "6509", "--db", "store.duckdb"], 2, "No sample id starts with '6509'"),
        (["run", "base", "--base-prompt", "no field"], 2, r"template 'no field' has no field \{question\}"),
        (["run", "base", "--base-url", "http://127.0.0.1:9"], 2, "Half a pair"),
        (["run", "base", *NO_SERVER], 4, r"GET http://127.0.0.1:9/\S+ failed.*\n.*rrti serve"),
        (["run", "--resume", "nothing"], 8, "no store"),
        (["show", "abc", "--db", "missing.duckdb"], 8, "no store at missing.duckdb"),
        (["sql", "SELECT 1", "--db", "garbage.duckdb"], 8, "garbage.duckdb"),
        (["stats", "ginni", "--db", "store.duckdb"], 2, "no statistic 'ginni'"),
        (["sql", "DROP TABLE runs", "--db", "store.duckdb"], 8, ""),
        (["calibrate", "--db", "store.duckdb", "--from-run", "x"], 2, "no run 'x'"),
        (["serve", "--base", "only-one"], 2, "Half a pair"),
        (["run", "base", "--limit", "many"], 2, r"'--limit'.*valid integer"),
        (["frobnicate"], 2, "frobnicate"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_one_line_and_an_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "garbage.duckdb").write_bytes(b"not a database" * 100)
    Store.open(tmp_path / "store.duckdb").close()
    monkeypatch.chdir(tmp_path)
    assert main.run(arguments) == code
    shown = capfd.readouterr()
    assert re.search(message, shown.err), shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_a_store_that_another_process_holds_is_named(tmp_path: Path) -> None:
    holder = duckdb.connect(str(tmp_path / "traces.duckdb"))
    try:
        done = rrti("sql", "SELECT 1", cwd=tmp_path)
    finally:
        holder.close()
    assert done.returncode == 9, done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_encoding_that_lacks_a_character_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    Store.open(tmp_path / "store.duckdb").close()
    done = rrti("sql", "SELECT chr(127754) AS wave", "--db", "store.duckdb", cwd=tmp_path)
    assert done.returncode == 1
    assert "PYTHONIOENCODING=utf-8" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = rrti("--debug", "run", "guded", cwd=tmp_path)
    assert "Traceback" in done.stderr
    assert done.returncode == 1


def test_json_is_a_list_of_rows(tmp_path: Path) -> None:
    Store.open(tmp_path / "store.duckdb").close()
    done = rrti("sql", "SELECT count(*) AS n, NULL AS nothing FROM tokens", "--db", "store.duckdb", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["[", "{", '"n":', "0,", '"nothing":', "null", "}", "]"]
