"""Kinds of bad input that have a message of their own: the field, the value, what to do, and the exit code; in process."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest

from rrti_sgl.cli import main
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.gating import choose_gate
from rrti_sgl.serving import arrangement
from tests.hostile import make_hostile_store

NESTED = "[" * 20_000 + "]" * 20_000
DIGITS = "9" * 6_000
LONG = "n" * 5_000
NO_SERVER = ("--base-url", "http://127.0.0.1:9", "--reasoning-url", "http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, where no server can be started."""

    def started(*given: object) -> None:
        raise AssertionError("servers were started")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(arrangement, "arrange", started)
    return tmp_path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_hostile_store(tmp_path_factory.mktemp("kinds") / "traces.duckdb"))


def refused(capfd: pytest.CaptureFixture[str], code: int, message: str, *arguments: str) -> None:
    """The command ends with a code and two lines at most, the first of which says this."""
    assert main.run(arguments) == code
    said = capfd.readouterr()
    assert re.search(message, said.err, re.DOTALL), said.err
    assert said.err.startswith("error: ")
    assert len(said.err) < 1500
    assert said.out == ""


@pytest.mark.parametrize("content", [NESTED, "[" * 20_000, DIGITS], ids=["nested", "open", "digits"])
class TestNestedAndLong:
    def test_experiment(self, folder: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
        (folder / "file.toml").write_text(f"a = {content}\n")
        refused(capfd, 11, r"file\.toml is no TOML.*\n +(Write shorter|Correct)", "experiment", "file.toml")

    def test_template(self, folder: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
        (folder / "file.toml").write_text(f"a = {content}\n")
        arguments = ("run", "base", "--base-template", "file.toml")
        refused(capfd, 2, r"template file file\.toml is no TOML.*\n +Correct the file", *arguments)

    @pytest.mark.parametrize("command", [("run", "base"), ("calibrate",)], ids=" ".join)
    @pytest.mark.parametrize("form", ['{"question": "q", "n": %s}', '[{"question": "q", "n": %s}]'])
    def test_problems(
        self, folder: Path, capfd: pytest.CaptureFixture[str], content: str, form: str, command: tuple[str, ...]
    ) -> None:
        (folder / "set.jsonl").write_text(form % content)
        refused(capfd, 3, r"set\.jsonl, line 1: no .*JSON.*\n", *command, "--problems", "set.jsonl")
        assert [path.name for path in folder.iterdir()] == ["set.jsonl"], "no store is made"

    @pytest.mark.parametrize("name", ["texts.jsonl", "log.json"])
    def test_texts(self, folder: Path, capfd: pytest.CaptureFixture[str], content: str, name: str) -> None:
        (folder / name).write_text(f'{{"samples": {content}}}')
        refused(capfd, 2, rf"{name}.*\n.*--format|{name}.*\n.*Correct", "score", "--input", name)

    def test_gate_parameter(self, capfd: pytest.CaptureFixture[str], content: str) -> None:
        arguments = ("run", "guided", "--gate", "a.b:C", "--gate-param", f"p={content}")
        refused(capfd, 2, r"--gate-param p=\S{20}\.\.\. (has too many|is too large).*\n +Write a shorter", *arguments)

    def test_manifest(self, folder: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
        (folder / "run").mkdir()
        (folder / "run" / "manifest.json").write_text(f'{{"run_id": {content}}}')
        refused(capfd, 8, r"run is no sealed run.*its manifest cannot be read", "db", "attach", "run", "s.duckdb")


def test_a_conversation_that_is_nested_is_a_text(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line = {"arguments": [[[NESTED], {}]], "resps": [["a"]], "target": "1"}
    (folder / "samples.jsonl").write_text(json.dumps(line))
    assert main.run(("score", "--input", "samples.jsonl", "--format", "lm-eval", *NO_SERVER)) == 4
    assert "rrti serve" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("option", "command"),
    [
        *(("--server-flags", command) for command in ("run base", "calibrate", "score --input texts.jsonl", "serve")),
        ("--base-flags", "serve"),
        ("--reasoning-flags", "serve"),
    ],
)
@pytest.mark.parametrize("flags", ['--a "b', "--a 'b", "--a \\"], ids=["double", "single", "backslash"])
def test_flags_that_are_not_closed(
    folder: Path, capfd: pytest.CaptureFixture[str], option: str, command: str, flags: str
) -> None:
    (folder / "texts.jsonl").write_text('{"question": "q", "text": "a"}\n')
    message = rf"{option} \S+ .* is no list of flags \(no .*\n +Close every quotation"
    refused(capfd, 2, message, *command.split(), option, flags)


def test_flags_of_python_are_named_as_there() -> None:
    import rrti_sgl as rr
    from rrti_sgl.errors import UsageError

    for name in ("flags", "base_flags", "reasoning_flags"):
        with pytest.raises(UsageError, match=rf"^{name}='\"a' is no list of flags \(no closing quotation\)"):
            rr.serve("bundled", **{name: '"a'})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        *(("--mean-length", value, r"is too small.*\n +Use more than 0") for value in ("-1", "0")),
        *(("--mean-length", value, "is no number") for value in ("nan", "inf")),
        ("--tau", "nan", "is no number"),
    ],
)
def test_lengths_and_thresholds(capfd: pytest.CaptureFixture[str], option: str, value: str, message: str) -> None:
    refused(capfd, 2, rf"{option} {value}\S* {message}", "run", "early", option, value)


@pytest.mark.parametrize(
    "program", [["base"], ["reasoning"], ["random"], ["early", "--mean-length", "9"], ["guided", "--gate", "a.b:C"]]
)
def test_a_calibration_that_nothing_uses(capfd: pytest.CaptureFixture[str], program: list[str]) -> None:
    refused(capfd, 2, r"--calibration abc does nothing.*\n +Leave it out", "run", *program, "--calibration", "abc")


def test_a_calibration_that_nothing_uses_from_python() -> None:
    with pytest.raises(UsageError, match=r"^calibration_id='abc' does nothing"):
        choose_gate(cast(Any, None), "base", GateOptions(), k=4, calibration_id="abc")


def test_parameters_of_no_gate(capfd: pytest.CaptureFixture[str]) -> None:
    refused(capfd, 2, r"--gate-param is of a gate of your own; none is named", "run", "guided", "--gate-param", "n=3")


def test_an_empty_store_to_attach_to(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    refused(capfd, 2, "'' is no path", "db", "attach", str(tmp_path), "")


def test_a_calibration_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    refused(capfd, 2, "'abc'", "run", "guided", "--calibration", "abc")


FAR = {
    "'infinity'::TIMESTAMP": "infinity",
    "'-infinity'::TIMESTAMPTZ": "-infinity",
    "'infinity'::TIMESTAMP_S": "infinity",
    "'-infinity'::DATE": "-infinity",
    "TIMESTAMP '290000-01-02 03:04:05'": "290000-01-02T03:04:05.000000",
    "TIMESTAMPTZ '290000-01-02 03:04:05+00'": "290000-01-02T03:04:05.000000+00:00",
    "DATE '5000000-01-02'": "5000000-01-02",
    "DATE '-0043-01-02'": "-0043-01-02",
    "DATE '2026-01-02'": "2026-01-02",
    "TIMESTAMP '2026-01-02 03:04:05'": "2026-01-02T03:04:05",
    "TIME '24:00:00'": "24:00:00",
}


@pytest.mark.parametrize(("value", "told"), FAR.items())
def test_far_times_and_decimals_in_lists(store: str, capfd: pytest.CaptureFixture[str], value: str, told: str) -> None:
    query = f"SELECT {value} AS a, [{value}, NULL] AS b, {{'c': {value}, 'd': [1.50::DECIMAL(9, 3)]}} AS e"
    assert main.run(("sql", query, "--db", store, "--json")) == 0
    assert json.loads(capfd.readouterr().out) == [{"a": told, "b": [told, None], "e": {"c": told, "d": [1.5]}}]
    for arguments in (
        ("sql", "--csv"),
        ("sql",),
        ("export",),
        ("export", "--format", "json"),
        ("export", "--format", "html"),
    ):
        assert main.run((arguments[0], query, *arguments[1:], "--db", store)) == 0
        said = capfd.readouterr()
        assert said.out.replace(" ", "T").count(told[:10]) >= 3, said.out
        assert "out of range" not in said.out


@pytest.mark.parametrize("key", ["a\nb", "a\rb", "a\x1b[2Jb", "a\0b", "a b", "ключ"], ids=ascii)
@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_key_that_cannot_be_sent(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, key: str, way: str
) -> None:
    given = ["--api-key", key]
    if way == "environment":
        if "\0" in key:
            pytest.skip("an environment has no NUL")
        monkeypatch.setenv("RRTI_API_KEY", key)
        given = []
    refused(capfd, 2, r"--api-key holds what no key does.*\n +Give the key alone", "run", "base", *NO_SERVER, *given)


@pytest.mark.parametrize("content", ["a" * 20 + "\nb", "a" * 20 + "\x1bb", "a" * 20 + "\0b", "ключ" * 9], ids=ascii)
def test_a_key_file_that_holds_no_key(folder: Path, capfd: pytest.CaptureFixture[str], content: str) -> None:
    (folder / "key").write_text(content, encoding="utf-8")
    (folder / "key").chmod(0o600)
    refused(capfd, 2, r"The key file key (holds no key|cannot be read).*\n", "serve", "--api-key-file", "key")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/x.duckdb", "folder file of the store file/x.duckdb cannot be made|There is no store at file/x.duckdb"),
        (":memory:", "The store :memory: would be in memory|There is no store at :memory:"),
        ("sub", r"The store sub is a folder\.\n +Name a file in it"),
        ("", "--db '' is no path"),
        (LONG, r"nnn\.\.\.nnn.*File name too long|nnn\.\.\.nnn.*too long"),
        (f"sub/{LONG}.duckdb", "File name too long"),
    ],
    ids=lambda value: value[:20],
)
@pytest.mark.parametrize(
    "command",
    ["run base", "calibrate", "sql SELECT(1)", "stats accuracy", "show x", "report", "export runs", "whatif x --tau 1"],
)
def test_stores_that_are_none(
    folder: Path, capfd: pytest.CaptureFixture[str], command: str, path: str, message: str
) -> None:
    (folder / "file").write_text("x")
    (folder / "sub").mkdir()
    refused(capfd, 8 if path else 2, message, *command.split(), "--db", path)


@pytest.mark.parametrize(
    ("command", "path", "message"),
    [
        ("export runs", "sub", r"sub cannot be written: Is a directory.*\n +Name another file"),
        ("export runs", "file/x", "cannot be written: Not a directory"),
        ("export runs", LONG, "n[.]{3}n+ cannot be written: File name too long"),
        ("sql SELECT(1) --format parquet", "sub", "sub cannot be written: Is a directory"),
        ("sql SELECT(1) --format parquet", LONG, "File name too long"),
        *((command, "", r"--out '' is no path") for command in ("export runs", "report", "demo", "experiment demo")),
        *((command, path, "The folder .* cannot be made") for command in ("report", "demo") for path in ("file/x", LONG)),
    ],
)
def test_outputs_that_cannot_be(
    folder: Path, capfd: pytest.CaptureFixture[str], store: str, command: str, path: str, message: str
) -> None:
    (folder / "file").write_text("x")
    (folder / "sub").mkdir()
    where = () if command.startswith(("demo", "experiment")) else ("--db", store)
    refused(capfd, 2, message, *command.split(), *where, "--out", path)


@pytest.mark.parametrize("path", ["file", "file/x", LONG])
def test_folders_of_logs(folder: Path, capfd: pytest.CaptureFixture[str], path: str) -> None:
    (folder / "file").write_text("x")
    refused(capfd, 2, r"--log-dir .* cannot be made.*\n +Name another folder", "serve", "--log-dir", path)


@pytest.mark.parametrize("path", [LONG, "a\nb", "."])
def test_inputs_that_are_no_files(capfd: pytest.CaptureFixture[str], path: str) -> None:
    refused(capfd, 2, "Problem set .* is neither a known name", "run", "base", "--problems", path)
    refused(capfd, 2, "There is no file", "score", "--input", path)
    refused(capfd, 2, "There is no experiment", "experiment", path)


@pytest.mark.parametrize("command", ["run \udc80", "run base --problems \ud800", "show \udfff"], ids=ascii)
def test_half_characters(capfd: pytest.CaptureFixture[str], command: str) -> None:
    refused(capfd, 2, r"The argument '\\ud\w+'.* is no UTF-8", *command.split())


def test_problems_are_read_before_a_store_is_made(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    refused(capfd, 2, "Problem set 'nothing' is neither", "run", "base", "--problems", "nothing")
    assert list(folder.iterdir()) == []
