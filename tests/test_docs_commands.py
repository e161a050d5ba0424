"""Every command that README and docs show is run, section by section, on the real servers of the bundled pair.

A command is changed only where it names what is another one here: addresses, ids of stored runs and samples, and how many
problems. Problem files that the pages speak of are there, with problems of the bundled world. What cannot run here is listed
in `ELSEWHERE`, with the place that tests it.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.problems import load_problems
from rrti_sgl.serving.server import ServedPair
from rrti_sgl.tinypair.bundle import bundled_pair
from tests.test_docs import COMMANDS, SHOWN, TEXTS, fences

pytestmark = [pytest.mark.server, pytest.mark.slow]

ELSEWHERE = {
    "serve": "tests/serving/: lifecycle, arrangement, routed",
    "api": "tests/api/",
    "view": "tests/explorer/",
    "demo": "make demo",
    "experiment": "tests/experiments/",
    "snapshot": "tests/db/test_snapshots.py: there is one only while a run writes",
    "sealed": "tests/db/test_sealing.py",
    "fused": "tests/fused/: on servers that hold both models",
    "fused-url": "tests/fused/",
    "attach": "tests/db/test_attaching.py: folders of other stores",
    "push": "tests/publishing/: to a stand-in of the hub",
    "pull": "tests/publishing/",
    "theirs.duckdb": "tests/publishing/: what was pulled",
    "endpoint-url": "tests/api/test_on_servers.py: a run and an experiment through an endpoint",
    "ray": "tests/cluster/",
    "benchmarks/natural_pair/base.toml": "make natural",
    "larger": "tests/experiments/: another guest; no third model is in the package",
    "own.duckdb": "tests/test_own_questions.py: the page as a whole",
}
PROBLEMS = 6
CHAT = "{% for message in messages %}{{ message.content }} {% endfor %}{% if add_generation_prompt %}solution{% endif %}"
FILES = ("problems.jsonl", "train.jsonl", "test.jsonl")
RUNS = ("base", "reasoning", "diagnose", "guided")
CHANGED = "FROM token_view WHERE program = $name AND changed ORDER BY sample_id, position"
FROM_NOTHING = {"Compare with the controls"}  # makes all the runs that it speaks of


def sections() -> dict[str, list[str]]:
    """The commands of each section that has any: page and heading -> lines."""
    found: dict[str, list[str]] = {}
    for place, line in SHOWN:
        page, _, number = place.partition(":")
        if not {word.lstrip("-") for word in shlex.split(line, comments=True)} & {*ELSEWHERE, "help"}:
            above = "\n".join(TEXTS[page].splitlines()[: int(number)])
            heading = re.findall(r"^## (.*)$", above, re.MULTILINE)
            found.setdefault(f"{page}: {heading[-1] if heading else 'top'}", []).append(line)
    return found


SECTIONS = sections()


def write_files(folder: Path) -> None:
    """The problem files that the pages name, local files of the benchmarks, and a tokenizer that knows of chats."""
    splits = {name: "calibration" if name == "train.jsonl" else "heldout" for name in FILES}
    gsm8k = ("question", "answer", "#### {}")
    benchmarks = {"gsm8k": gsm8k, "gsm8k-train": gsm8k, "aime24": ("problem", "answer", "{}")}
    for name, split in splits.items():
        rows = [
            {"question": problem.question, "problem": problem.question, "answer": problem.answer}
            for problem in load_problems(f"world:{split}", limit=PROBLEMS).problems
        ]
        (folder / name).write_text("\n".join(map(json.dumps, rows)))
    for name, (question, answer, form) in benchmarks.items():
        part = "calibration" if name.endswith("-train") else "heldout"
        found = load_problems(f"world:{part}", limit=8 * PROBLEMS).problems
        rows = [{question: problem.question, answer: form.format(problem.answer)} for problem in found]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    shutil.copytree(bundled_pair().base, folder / "tokenizer", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "tokenizer" / "chat_template.jinja").write_text(CHAT)
    for _, _, code in fences("python"):
        if named := re.match(r"# (my_\w+\.py)\n", code):
            (folder / named[1]).write_text(code)


class Reader:
    """Reads a page's commands as its reader would: with own addresses, and ids of own runs."""

    def __init__(self, folder: Path, served: ServedPair) -> None:
        self.folder, self.served = folder, served

    def words(self, line: str) -> list[str]:
        """The arguments of a shown command, as they are run here."""
        words = shlex.split(line, comments=True)[1:]
        words = [self._own(word) for word in words]
        if "--position" in words:
            words[words.index("--position") + 1] = self._newest(f"SELECT position AS id {CHANGED}", "guided")
        known = {option for parameter in COMMANDS.commands[words[0]].params for option in parameter.opts}
        if "--base-url" in known and "--from-run" not in words:
            words += ["--base-url", self.served.base.url, "--reasoning-url", self.served.reasoning.url]
            words += ["--tokenizer", str(self.folder / "tokenizer")]
        if {"--limit", "--max-new-tokens"} <= known and not {"--resume", "--from-run"} & set(words):
            words += ["--limit", str(PROBLEMS), "--max-new-tokens", "110"]
        return words

    def _own(self, word: str) -> str:
        word = word.replace("http://127.0.0.1:30000", self.served.base.url)
        word = word.replace("http://127.0.0.1:30001", self.served.reasoning.url)
        word = word.replace("demo/traces.duckdb", "traces.duckdb")
        if match := re.fullmatch(r"([a-z]+)-2026\d{4}-\d{6}-[0-9a-f]{4}", word):
            return self._newest("SELECT run_id AS id FROM runs WHERE program = $name ORDER BY created_at DESC", match[1])
        if re.fullmatch(r"[0-9a-f]{12}", word):
            return self._newest(f"SELECT sample_id AS id {CHANGED}", "guided")
        return word

    def _newest(self, query: str, program: str) -> str:
        with Store.open_readonly(self.folder / "traces.duckdb") as store:
            return str(store.sql(query, {"name": program}).to_pylist()[0]["id"])


@pytest.fixture(scope="module")
def prepared(served_pair: ServedPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the pages and a store with the runs that a section may presuppose."""
    folder = tmp_path_factory.mktemp("docs")
    write_files(folder)
    reader = Reader(folder, served_pair)
    for line in ("rrti calibrate", "rrti calibrate --metric entropy_base", *(f"rrti run {name}" for name in RUNS)):
        succeed([*reader.words(line), "--db", str(folder / "traces.duckdb")])
    return folder


def succeed(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    why = getattr(result.exception, "message", result.exception)
    assert result.exit_code == 0, f"rrti {shlex.join(words)}: {why}\n{result.output[-2000:]}"


@pytest.mark.parametrize("section", SECTIONS)
def test_the_commands_of_a_section_run(
    section: str, prepared: Path, served_pair: ServedPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(prepared, folder)
    if section.split(": ")[1] in FROM_NOTHING:
        (folder / "traces.duckdb").unlink()
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("RRTI_PROBLEMS", str(folder))
    reader = Reader(folder, served_pair)
    for line in SECTIONS[section]:
        succeed(reader.words(line))
