"""Every number that becomes memory has a bound: a line says it, the process lives, and no memory is taken."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rrti_sgl.cli import main
from rrti_sgl.cli.options import RUN_OPTIONS
from rrti_sgl.db.analysis.parameters import Parameter
from rrti_sgl.db.connection import bytes_of
from rrti_sgl.db.queries import QUERIES, parameters_of
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from tests.hostile import make_hostile_store

HUGE = 10**22 + 1
MIB = 2**20
# One huge value, many, wide ones, rows without end, and lists and structures that are collected.
QUERIES_THAT_GROW = (
    "SELECT repeat('x', 2000000000)",
    "SELECT repeat('x', 200000000)",
    "SELECT repeat('x', 1000) FROM range(10000000)",
    "SELECT * FROM range(1000000000000)",
    "SELECT list(x) FROM range(3000000000) t(x)",
    "SELECT list({'a': x, 'b': repeat('y', 100)}) FROM range(100000000) t(x)",
    "SELECT range(0, 1000000000)",
    "SELECT string_agg(repeat('x', 1000), '') FROM range(10000000)",
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hostile_store(tmp_path_factory.mktemp("bounds") / "traces.duckdb")


def test_a_query_keeps_within_its_memory(store: Path) -> None:
    """One after the other in one process: what one took would show in all that follow."""
    asked = [*(("sql", query) for query in QUERIES_THAT_GROW), *(("export", query) for query in QUERIES_THAT_GROW[:3])]
    commands = [[command, query, "--db", str(store), "--memory", "300MB"] for command, query in asked]
    code = f"""
import sys
from rrti_sgl.cli import main
for arguments in {commands!r}:
    code = main.run(arguments)
    # ru_maxrss has the parent's
    [peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print("ended with", code, int(peak) * 1024 // {MIB}, file=sys.stderr, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    found = re.findall(r"(.*?)ended with (\d+) (\d+)\n", done.stderr, re.DOTALL)
    for (said, ended, most), arguments in zip(found, commands, strict=True):
        assert "needs more memory than the limit" in said, (arguments, said)
        assert ended == "8", arguments
        assert int(most) < 1000, (arguments, "MiB, with the interpreter and DuckDB")
    assert done.stdout == ""


def test_what_fits_is_answered_and_the_limit_is_lifted(store: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    query = "SELECT length(repeat('x', 10000000)) AS n"
    assert main.run(["sql", query, "--db", str(store), "--memory", "300MB", "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == [{"n": 10_000_000}]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


NUMBERS = [entry.flag for entry in RUN_OPTIONS.values() if re.search(r"\bint\b", str(entry.type))]


@pytest.mark.parametrize("flag", NUMBERS)
def test_numbers_of_runs_name_their_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], flag: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main.run(["run", "guided", flag, str(HUGE)]) == 2
    assert re.search(rf"{flag} {HUGE} is too large\.\n +Use at most \d+\.", capfd.readouterr().err)
    assert list(tmp_path.iterdir()) == []


def test_there_are_such_options() -> None:
    assert {"--k", "--window", "--seed", "--samples", "--max-new-tokens", "--limit", "--draft-tokens"} <= set(NUMBERS)


COUNTS = [
    (name, key, parameter)
    for name, query in QUERIES.items()
    for key, parameter in parameters_of(query).items()
    if "whole number" in parameter.wanted
]


@pytest.mark.parametrize(("name", "key", "parameter"), COUNTS, ids=lambda value: value if isinstance(value, str) else "")
def test_counts_of_statistics_have_a_bound(name: str, key: str, parameter: Parameter) -> None:
    with pytest.raises(UsageError, match=r"cannot be .* from \d to \d+"):
        parameter.checked(key, HUGE)
    with pytest.raises(UsageError, match="cannot be"):
        parameter.checked(key, [1] * 2_000_000 if isinstance(parameter.default, list) else "1")


@pytest.mark.parametrize("setting", ["bins=100000000", "resamples=99999999999999", f"seed={HUGE}", "resamples=-1"])
def test_a_statistic_says_so(store: Path, capfd: pytest.CaptureFixture[str], setting: str) -> None:
    name, _, value = setting.partition("=")
    assert main.run(["stats", "position", "--db", str(store), "--set", setting]) == 2
    shown = "1e+22" if value == str(HUGE) else value  # what JSON makes of so many digits
    assert f"The parameter '{name}' cannot be {shown}" in capfd.readouterr().err


@pytest.mark.parametrize("option", ["--seeds", "--in-flight"])
@pytest.mark.parametrize("value", ["1000000000", str(HUGE)])
def test_other_numbers_name_their_option(capfd: pytest.CaptureFixture[str], option: str, value: str) -> None:
    assert main.run(["run", "guided", option, value]) == 2
    assert option in capfd.readouterr().err


@pytest.mark.parametrize("text", ["x", "", "-1GB", "nan", "1e30GB", "9" * 23 + "GB", "0GB", "1", "3XB"])
def test_a_memory_that_is_none_names_its_option(store: Path, capfd: pytest.CaptureFixture[str], text: str) -> None:
    for command in (["sql", "SELECT 1"], ["export", "runs"], ["report"]):
        assert main.run([*command, "--db", str(store), "--memory", text]) == 2
        assert "--memory" in capfd.readouterr().err


def test_sizes_of_memory() -> None:
    assert [bytes_of(text) for text in ("2GB", "1.5 GiB", "300mb")] == [2 * 10**9, 3 * 2**29, 300 * 10**6]


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "-1", "0"])
def test_a_time_that_is_none_names_its_option(store: Path, capfd: pytest.CaptureFixture[str], seconds: str) -> None:
    assert main.run(["sql", "SELECT 1", "--db", str(store), "--timeout", seconds]) == 2
    assert "--timeout" in capfd.readouterr().err


def test_a_grid_is_counted_before_it_is_made(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    taus = [round(0.001 * i, 3) for i in range(1, 1001)]
    text = f"""
[models]
base = {{model = "bundled"}}
reasoning = {{model = "bundled"}}
[[evaluations]]
problems = "world:heldout"
seeds = {list(range(1000))}
[[programs]]
program = "guided"
tau = {taus}
window = {list(range(1, 1001))}
"""
    (tmp_path / "grid.toml").write_text(text)
    assert main.run(["experiment", str(tmp_path / "grid.toml"), "--dry-run"]) == 11
    assert "the lists make 1,000,000,000 runs; an experiment has at most 10,000" in capfd.readouterr().err


def test_a_store_from_python_is_not_held(store: Path) -> None:
    with Store.open_readonly(store) as opened:
        assert opened.sql("SELECT count(*) AS n FROM range(100000)").to_pylist() == [{"n": 100_000}]
