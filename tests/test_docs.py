"""What README and docs show is there and works: links, commands, options, SQL, Python, and every file they name."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from typer.cli import get_docs_for_click

from api_page import api_markdown
from rrti_sgl.cli.main import app
from rrti_sgl.db.definitions import definitions_markdown
from rrti_sgl.db.schema import schema_markdown
from rrti_sgl.db.store import Store
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import Steps, load_gate
from rrti_sgl.science.planning import load_tagger
from tests.db.conftest import make_calibration, make_problem, make_run, make_trace

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {
    page.relative_to(ROOT).as_posix(): page
    for page in (ROOT / "README.md", ROOT / "SECURITY.md", *sorted(DOCS.glob("*.md")))
}
TEXTS = {name: page.read_text(encoding="utf-8") for name, page in PAGES.items()}
FENCE = re.compile(
    r"^(?:<!-- test: (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)
SPAN = re.compile(r"`([^`\n]+)`")


def fences(*languages: str) -> Iterator[tuple[str, str, str]]:
    """(page and line, mark before the block, text of the block) of every fenced block in one of the languages."""
    for name, text in TEXTS.items():
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                line = text.count("\n", 0, match.start("body")) + 1
                yield f"{name}:{line}", match["mark"] or "", match["body"]


def without_fences(text: str) -> str:
    return FENCE.sub("", text)


# -- links ----------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """The anchors that headings get: lower case, punctuation away, blanks to hyphens."""
    titles = re.findall(r"^#+ (.*)$", without_fences(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


LINKS = [
    (name, target)
    for name, text in TEXTS.items()
    for target in re.findall(r"\]\(([^)\s]+)\)", without_fences(text))
    if not target.startswith(("https://", "http://"))
]


@pytest.mark.parametrize(("name", "target"), LINKS, ids=lambda value: value)
def test_relative_links_resolve(name: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    found = (PAGES[name].parent / path).resolve() if path else PAGES[name]
    assert found.exists()
    if anchor:
        assert anchor in anchors(found.read_text(encoding="utf-8"))


# -- commands -------------------------------------------------------------------------------------------------------

COMMANDS = typer.main.get_command(app)
COMMANDS.list_commands(None)  # loads them


def find_commands() -> Iterator[tuple[str, str]]:
    """Every `rrti` command line in a shell or text block, continued lines joined."""
    for place, _, body in fences("sh", "bash", "text", ""):
        for line in re.sub(r"\\\n\s*", "", body).splitlines():
            if match := re.match(r"\s*(?:[A-Z_]+=\S+ )*(rrti .*)", line):
                yield place, match[1]


SHOWN = list(find_commands())


def parse(arguments: list[str]) -> Any:
    """The context of a command line, options checked and converted, nothing run.

    Raises:
        Exception: click's usage error for an unknown command or option, a bad value or a missing argument.
    """
    command, parent, name = COMMANDS, None, "rrti"
    while True:
        context = command.make_context(name, list(arguments), parent=parent)
        if not hasattr(command, "resolve_command"):
            return context
        rest = [*context._protected_args, *context.args]
        found, subcommand, arguments = command.resolve_command(context, rest)
        assert subcommand is not None
        command, parent, name = subcommand, context, str(found)


@pytest.mark.parametrize(("place", "line"), SHOWN, ids=[place for place, _ in SHOWN])
def test_shown_commands_parse(place: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[-1] != "--help":
        parse(words[1:])


@pytest.mark.parametrize(
    "line",
    [
        "rrti frobnicate",
        "rrti run guided --no-such",
        "rrti show",
        "rrti sql",
        "rrti run base --k many",
        "rrti db info --resume x",
    ],
)
def test_a_wrong_command_does_not_parse(line: str) -> None:
    with pytest.raises(Exception, match=r"\w") as refused:
        parse(line.split()[1:])
    assert "UsageError" in {kind.__name__ for kind in type(refused.value).__mro__}


def all_options() -> dict[str, set[str]]:
    """Options of every command by its name, and of all together under ""."""
    found: dict[str, set[str]] = {}
    for name, command in COMMANDS.commands.items():
        parts = getattr(command, "commands", {"": command}).values()
        found[name] = {o for c in parts for p in c.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
    found[""] = set().union(*found.values(), {"--debug", "--version"})
    return found


def named_options() -> Iterator[tuple[str, str, str]]:
    """(page, command or "", option) for every option inside an inline code span."""
    for name, text in TEXTS.items():
        for span in SPAN.findall(without_fences(text)):
            words = span.split()
            if words and words[0] in ("rrti", "make", "pip", "python"):
                if words[0] == "rrti" and len(words) > 1 and words[1] in COMMANDS.commands:
                    yield from ((name, words[1], word) for word in words if word.startswith("--"))
            else:
                yield from ((name, "", word) for word in words if re.fullmatch(r"--[a-z][a-z-]*", word))


@pytest.mark.parametrize(("page", "command", "option"), sorted(set(named_options())))
def test_named_options_exist(page: str, command: str, option: str) -> None:
    assert option in all_options()[command]


def test_every_command_is_shown() -> None:
    shown = " ".join(TEXTS.values())
    missing = [name for name in COMMANDS.commands if f"rrti {name}" not in shown]
    assert set(missing) <= {"demo"}  # it may be shown as `make demo`


def test_named_make_targets_and_extras_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "\n".join(TEXTS.values())
    used = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert {"demo", "test"} <= used <= targets
    assert {"gpu"} <= set(re.findall(r'install "\.\[(\w+)\]"', text)) <= set(extras)
    assert "TORCH_INDEX ?=" in (ROOT / "Makefile").read_text()


# -- files ----------------------------------------------------------------------------------------------------------


def tree(text: str) -> Iterator[str]:
    """Paths of the README's tree: two blanks a level, a comment after each."""
    [block] = re.findall(r"## What is where\n\n```text\n(.*?)```", text, re.DOTALL)
    folders: list[str] = []
    for line in block.splitlines():
        name, comment = line.split(maxsplit=1)
        level = (len(line) - len(line.lstrip())) // 2
        assert comment
        folders[level:] = [name]
        yield "".join(folders)


def named_files(text: str) -> set[str]:
    """Code spans that are paths of this repository, but for what is built: of several parts or a source file."""
    spans = [span for span in SPAN.findall(without_fences(text)) if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", span)]
    spans = [span for span in spans if not span.startswith("build/")]
    return {span for span in spans if "/" in span or span.endswith((".py", ".md", ".sql", ".toml", ".lock"))}


FILES = sorted(
    {(name, path) for name in TEXTS if name != "docs/schema.md" for path in named_files(TEXTS[name])}
    | {("README.md, tree", path) for path in tree(TEXTS["README.md"])}
)


@pytest.mark.parametrize(("page", "path"), FILES)
def test_named_files_exist(page: str, path: str) -> None:
    found = ROOT / path
    assert found.is_dir() if path.endswith("/") else found.exists()


def test_the_tree_and_the_architecture_name_files() -> None:
    """The two tests above look at something."""
    assert len(list(tree(TEXTS["README.md"]))) > 20
    assert {"cli/run.py", "programs/running/runner.py", "rrti_sgl/decoding/chunked.py"} <= named_files(
        TEXTS["docs/architecture.md"]
    )


def test_the_picture_names_files_that_exist_and_has_its_own_background() -> None:
    svg = "{http://www.w3.org/2000/svg}"
    root = ElementTree.parse(DOCS / "architecture.svg").getroot()
    assert next(root.iter(f"{svg}rect")).attrib["fill"] == "#ffffff"
    folder, seen = ROOT, 0
    for label in [str(text.text) for text in root.iter(f"{svg}text") if text.get("class") == "file"]:
        for name in (part.strip() for part in label.split(",")):
            if re.fullmatch(r"[\w/]+/", name):
                folder = ROOT / name
                assert folder.is_dir(), name
            elif name.endswith(".py"):
                assert (ROOT / name if "/" in name else folder / name).is_file(), name
                seen += 1
    assert seen >= 10


def test_the_schema_page_is_the_generated_one() -> None:
    assert TEXTS["docs/schema.md"] == schema_markdown()


def test_the_statistics_page_is_the_generated_one() -> None:
    assert TEXTS["docs/statistics.md"] == definitions_markdown()


def test_the_api_page_is_the_generated_one() -> None:
    assert TEXTS["docs/api.md"] == api_markdown()


def test_the_command_page_is_the_generated_one() -> None:
    page = get_docs_for_click(obj=COMMANDS, ctx=typer.Context(COMMANDS), name="rrti", title="Commands")
    assert TEXTS["docs/commands.md"].strip() == page.strip()


# -- SQL and Python -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny store with a run of every kind that the recipes ask about."""
    path = tmp_path_factory.mktemp("docs") / "traces.duckdb"
    fired = {"fired": [False, False, True], "planted": [0, 1, 1], "base_token_id": [10, 11, 30], "token_id": [10, 11, 12]}
    fired["base_token_text"] = ["t0", "t1", "t20"]
    with Store.open(path) as store:
        store.add_problems([make_problem("p1"), make_problem("p2")])
        for program, right in (("base", False), ("diagnose", False), ("guided", True), ("reasoning", True)):
            tau = 1.5 if program == "guided" else None
            store.begin_run(make_run(f"{program}-1", program=program, tau=tau))
            tokens = fired if program == "guided" else {}
            store.write_samples([make_trace(f"{program}-1", p, correct=right, tokens=tokens) for p in ("p1", "p2")])
        store.add_calibration(make_calibration(run_id="diagnose-1"))
    return path


def queries() -> Iterator[tuple[str, str]]:
    yield from ((place, body) for place, _, body in fences("sql") if "CREATE VIEW" not in body)
    for place, line in SHOWN:
        words = shlex.split(line, comments=True)
        if words[1] == "sql":
            yield place, words[2]


QUERIES = list(queries())


@pytest.mark.parametrize(("place", "query"), QUERIES, ids=[place for place, _ in QUERIES])
def test_shown_sql_runs(traces: Path, place: str, query: str) -> None:
    with Store.open_readonly(traces) as store:
        assert store.sql(query).num_rows > 0


@pytest.fixture(scope="module")
def results(traces: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of the recipes of the howto by their headings."""
    found = re.findall(r"^### (.*?)\n.*?```sql\n(.*?)```", TEXTS["docs/howto.md"], re.MULTILINE | re.DOTALL)
    with Store.open_readonly(traces) as store:
        return {title: store.sql(query).to_pylist() for title, query in found}


def test_recipes_answer_right(results: dict[str, list[dict[str, Any]]]) -> None:
    assert results["Replay the gate"] == [{"run_id": "guided-1", "tokens": 6, "takeovers": 2, "differ": 0}]
    [replaced] = results["What takeovers replace"]
    assert replaced == {"base_drew": "t20", "emitted": "t2", "n": 2, "mean_score": 2.0}
    [flips] = results["Wrong answers put right, and right ones spoilt"]
    assert flips == {"base_right": False, "guided_right": True, "samples": 2}
    assert {"run_id": "guided-1", "precision_": 1.0, "recall": 0.5} in results["How well a gate finds planted decisions"]
    assert [row["ce"] for row in results["Where the models disagree most"]] == [2, 2, 1, 1, 0, 0]
    [cost] = [row for row in results["What a run cost"] if row["run_id"] == "guided-1"]
    assert cost["calls_per_token"] == pytest.approx(4 / 3)


def test_the_replay_recipe_finds_a_wrong_decision(traces: Path, tmp_path: Path) -> None:
    [query] = re.findall(r"### Replay the gate\n.*?```sql\n(.*?)```", TEXTS["docs/howto.md"], re.DOTALL)
    path = tmp_path / "wrong.duckdb"
    with Store.open(path) as store:
        store.begin_run(make_run("r", tau=0.5, lambda_=4.0, window=2, warmup="partial"))
        columns = {"fired": [False, True, True], "local_mean": [float("nan"), 0.0, 0.5]}
        store.write_samples([make_trace("r", tokens=columns)])  # the last: 2 is not above 4 * 0.5
        assert [row["differ"] for row in store.sql(query).to_pylist()] == [1]


PYTHON = list(fences("python"))


@pytest.mark.parametrize(("place", "mark", "code"), PYTHON, ids=[place for place, _, _ in PYTHON])
def test_shown_python_works(
    place: str, mark: str, code: str, traces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mark in ("gate", "tagger"):
        module = f"docs_example_{mark}"
        (tmp_path / f"{module}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, module, raising=False)
        if mark == "tagger":
            assert load_tagger(f"{module}:Connectives").tag(["so ", "what"]) == ["connective", None]
            return
        base = Distributions.from_logits(np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]]))
        positions = np.arange(2, dtype=np.int32)
        steps = Steps(positions, base, base[np.array([1, 1])], sample_seed=0)
        unsure, agreed = load_gate(f"{module}:UnsureAndApart", {"tau": 0.1}).signal(steps)
        assert unsure > 0.1 > agreed
        at_one = load_gate(f"{module}:OnePosition", {"position": 1}).signal(Steps(positions, base, None, sample_seed=0))
        assert at_one.tolist() == [0.0, 1.0]
        return
    if mark == "compile":
        compile(code, place, "exec")
        for line in re.findall(r"^from .*$", code, re.MULTILINE):
            exec(line, {})
        return
    for library, call in (("pandas", ".df()"), ("polars", ".pl()")):
        if "pandas" in mark and importlib.util.find_spec(library) is None:
            code = code.replace(call, ".fetchall()")  # no dependency of ours; all else is run
    exec(re.sub(r'"[\w/]*traces\.duckdb"', repr(str(traces)), code), {})
