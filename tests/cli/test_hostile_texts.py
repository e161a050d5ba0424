"""What a store holds is shown and does nothing: no control code reaches a terminal or a page, no markup is read as such."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from rrti_sgl.cli import main
from rrti_sgl.programs.reporting.html import SCRIPT
from rrti_sgl.programs.tables.safe_text import visible
from tests.hostile import ALL, TEXTS, codes, make_hostile_store, sample_of

EVERYTHING = ("SELECT * FROM tokens LIMIT 20", "SELECT * FROM problems", "SELECT * FROM samples", "SELECT * FROM runs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hostile_store(tmp_path_factory.mktemp("hostile") / "traces.duckdb")


@pytest.fixture(scope="module")
def sample(store: Path) -> str:
    return sample_of(store, "run-2")


def commands(sample: str) -> list[list[str]]:
    return [
        ["show", sample],
        ["show", sample, "--tokens"],
        ["show", sample, "--json"],
        *(["sql", query] for query in EVERYTHING),
        *(["sql", query, "--json"] for query in EVERYTHING),
        ["sql", f'SELECT 1 AS "{ALL.replace(chr(34), "")}"'],
        ["stats", "accuracy"],
        *(["stats", name] for name in ("sparsity", "planning", "takeovers", "cost", "flips", "metrics")),
        *(["stats", name, "--full", "--format", "table"] for name in ("accuracy", "sparsity", "takeovers")),
        ["stats", "accuracy", "--format", "table"],
        ["stats", "accuracy", "--json"],
        *(["runs"], ["runs", "--json"], ["samples"], ["samples", "--flipped"], ["samples", "--json"]),
        *(["samples", "\x1b[31m"], ["compare", "\x1b[31m", "base"], ["compare", "run-0", "run-1"]),
        *(["export", name, "--format", kind] for name in ("accuracy", "runs") for kind in ("latex", "markdown", "html")),
        *(["export", query, "--format", kind] for query in EVERYTHING for kind in ("latex", "markdown", "html")),
        ["whatif", "run-0"],
        ["whatif", "run-0", "--tau", "1", "--positions", "-", "--json"],
        # Errors: what was typed, and what the store says.
        ["show", "\x1b[31m", "--json"],
        ["sql", "SELECT \x1b[31m"],
        ["sql", f"SELECT error('{ALL}')"],
        ["sql", "SELECT sample_id::INT + question::INT FROM samples, problems"],
        ["stats", "\x1b[31m"],
        ["stats", "accuracy", "--run", "\x1b[31m\udcff"],
        ["stats", "accuracy", "--set", "\x1b=\x1b"],
        ["export", "\x1b[31m"],
        ["run", "guided", "--grader", "\x1b[31m", "--problems", "\x9b.jsonl"],
        ["run", "\x1b[31m"],
        ["experiment", "\x1b[31m.toml"],
        ["\x1b[31m"],
        ["sql", "SELECT 1", "--\x1b[31m"],
        ["grade", "run-1", "--grader", "last-number", "--dry-run"],
    ]


@pytest.mark.parametrize("number", range(len(commands(""))))
def test_no_command_sends_a_code(
    store: Path,
    sample: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    number: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = commands(sample)[number]
    named = [] if arguments[0] in ("run", "experiment", "\x1b[31m") else ["--db", str(store)]
    code = main.run([*arguments, *named])
    shown = capfd.readouterr()
    assert shown.out or shown.err
    assert codes(shown.out + shown.err) == []
    assert code != 70, shown.err


def test_commands_on_the_file_send_no_code(store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "\x1b[31m\u202e" / "\x9b.duckdb"
    odd.parent.mkdir()
    odd.write_bytes(store.read_bytes())
    steps = [["upgrade"], ["info"], ["check"], ["precision", "exact"], ["seal", "run-1"], ["unseal", "run-1"], ["vacuum"]]
    steps += [["delete", "run-3", "--yes"], ["snapshot"], ["seal", "\x1b"], ["downgrade", "\x1b", "--yes"]]
    for command, *rest in steps:
        main.run(["db", command, *rest, str(odd)])
    main.run(["db", "attach", str(odd.parent / "\x1bnone")])
    main.run(["db", "info", "\x1b[31m"])
    shown = capfd.readouterr()
    assert codes(shown.out + shown.err) == []
    assert r"\x1b[31m\u202e/\x9b.duckdb: run run-3 deleted" in shown.out
    assert r"There is no store at \x1b[31m" in shown.err


def test_a_coloured_terminal_gets_styles_and_no_code_of_a_text(
    store: Path, sample: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    assert main.run(["show", sample, "--db", str(store)]) == 0
    out = capfd.readouterr().out
    assert "\x1b[" in out
    assert codes(re.sub(r"\x1b\[[\d;]*m", "", out)) == []
    assert "\x1b[2J" not in out


def test_data_stays_what_it_is(store: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    query = "SELECT question FROM problems LIMIT 1"
    assert main.run(["sql", query, "--db", str(store), "--json"]) == 0
    encoded = capfdbinary.readouterr().out.decode()
    assert json.loads(encoded) == [{"question": ALL}]
    assert codes(encoded) == []
    assert main.run(["sql", query, "--db", str(store), "--csv"]) == 0
    assert ALL.replace('"', '""') in capfdbinary.readouterr().out.decode()


class Tags(HTMLParser):
    """The tags of a page and their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.usefixtures("drawn_once")
def test_the_report_shows_all_of_it_and_runs_nothing(store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main.run(["report", "--db", str(store), "--out", str(tmp_path)]) == 0
    shown = capfd.readouterr()
    assert codes(shown.out + shown.err) == []
    written = {path: path.read_text() for path in tmp_path.rglob("*.*") if path.suffix in (".md", ".html", ".tex", ".svg")}
    assert len(written) > 20
    for path, text in written.items():
        assert codes(text) == [], path
        text = text.replace(f"<script>{SCRIPT}</script>", "") if path.name == "report.html" else text
        assert path.suffix == ".tex" or "<script" not in text.replace("\\<script", ""), path
    for path, text in written.items():
        if path.suffix == ".tex":
            text = re.sub(r"^%.*", "", text, flags=re.MULTILINE)
            names = re.findall(r"(?<!\\)\\([a-zA-Z]+)", text.replace("\\\\", ""))
            assert not {"input", "write", "immediate"} & set(names), path
            assert "^^" not in text
    page = written[tmp_path / "report.html"]
    assert "Content-Security-Policy" in page
    assert page.count("<script") == 1
    tags = Tags(page.replace(f"<script>{SCRIPT}</script>", "")).found
    assert not {"script", "img", "iframe", "link", "base", "object"} & {tag for tag, _ in tags}
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    check_markdown(written[tmp_path / "report.md"], files)


def check_markdown(text: str, files: set[str]) -> None:
    """Every row of a table has as many cells as its head, links lead to the report's files, nothing of a store is markup."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert not [token for token in tokens if token.type in ("html_block", "fence", "code_block")]
    inline = [child for token in tokens if token.children for child in token.children]
    assert not [child for child in inline if child.type == "html_inline"]
    links = {str(child.attrs["href"]) for child in inline if child.type == "link_open"}
    assert links <= files
    headings = [token for token in tokens if token.type == "heading_open"]
    assert len(headings) == len(re.findall(r"^#+ ", text, re.MULTILINE))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table


@pytest.mark.parametrize("text", TEXTS)
def test_visible_text_stays_so(text: str) -> None:
    once = visible(text)
    assert codes(once) == []
    assert visible(once) == once


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[0m", r"\x1b[0m"),
        ("a\x00b\x7f", r"a\x00b\x7f"),
        ("\x9b", r"\x9b"),
        ("\u202e\u2066", r"\u202e\u2066"),
        ("\udcff", r"\udcff"),
        ("a\r\nb\tc\n", "a\nb\tc\n"),
        ("50%\rdone", r"50%\rdone"),
        ("naïve 中 🌊 א", "naïve 中 🌊 א"),
    ],
)
def test_codes_are_shown_as_python_writes_them(text: str, shown: str) -> None:
    assert visible(text) == shown
