"""Inputs that are drawn: no command ends in a traceback, sends a code to the terminal or changes a store that it reads.

Command lines are drawn over every command and option that needs no server, files are sound ones that are damaged. What is
foreseen is an exit code of `rrti_sgl.errors`; the last resort (70) is what is looked for.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from rrti_sgl import errors
from rrti_sgl.db.store import Store
from tests.cli.fuzz.damaged import Damaged, files, make_sources
from tests.cli.fuzz.subject import Ending, Subject
from tests.cli.fuzz.typed import BASES, WRITING, commands, declared
from tests.hostile import codes

FEW, CHUNKS, MANY = 40, 10, 500  # inputs of each of the two kinds; CHUNKS * MANY * 2 is ten thousand


def documented() -> set[int]:
    """Exit codes that a command may end with: what it was asked for, and those of the errors."""
    found, kinds = {0}, [errors.RRTIError]
    for kind in kinds:
        found.add(kind.exit_code)
        kinds += kind.__subclasses__()
    return found


@dataclass
class Fuzz:
    """Sound files, the process that is given inputs, and what came out."""

    sources: Path
    folder: Path
    subject: Subject
    sample: str
    seen: Counter[object] = field(default_factory=Counter)
    wrong: dict[str, str] = field(default_factory=dict)
    sound: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def typed(self, drawn: tuple[str, list[str]]) -> None:
        """One command line in a folder of sound files."""
        name, arguments = drawn
        self._given(arguments, changes=name in WRITING)

    def read(self, drawn: Damaged) -> None:
        """One damaged file, given to a command that reads it."""
        name = " ".join(drawn.arguments[: 2 if drawn.arguments[0] == "db" else 1])
        self._given(list(drawn.arguments), drawn, changes=name in WRITING)

    def _given(self, arguments: list[str], damaged: Damaged | None = None, *, changes: bool) -> None:
        if not self.sound or self.sound != self._state():
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.copytree(self.sources, self.folder)
            self.sound = self._state()
        if damaged is not None and damaged.path:
            (self.folder / damaged.path).write_bytes(damaged.content)
        before = self._state()
        ending = self.subject.run(arguments, self.folder)
        self.seen[ending.code] += 1
        after = self._state()
        stores = [name for name in before if name.endswith(".duckdb")]
        found = self._wrong(ending, changed=not changes and any(before[name] != after.get(name) for name in stores))
        if found and found not in self.wrong:
            shown = [text if len(text) < 300 else f"{text[:100]}... ({len(text)})" for text in arguments]
            self.wrong[found] = f"{shown}\n{self._kept(damaged)}\n{ending.fault[-1500:]}"
        if damaged is not None and damaged.path and before == after:
            shutil.copy(self.sources / damaged.path, self.folder / damaged.path)
            self.sound = self._state()

    def _kept(self, damaged: Damaged | None) -> str:
        """Where the file is that something is wrong with, for whoever looks into it."""
        if damaged is None or not damaged.path:
            return ""
        keep = self.subject.folder / f"{self.seen.total()}-{Path(damaged.path).name}"
        keep.write_bytes(damaged.content)
        return f"with {damaged.path} as in {keep}"

    def _state(self) -> dict[str, tuple[int, ...]]:
        """What is in the folder: whatever is written has another time."""
        found = {str(path.relative_to(self.folder)): path.lstat() for path in self.folder.rglob("*")}
        return {name: (entry.st_mtime_ns, entry.st_size, entry.st_ino) for name, entry in found.items()}

    @staticmethod
    def _wrong(ending: Ending, *, changed: bool) -> str:
        """What is wrong with how a command ended, the same for inputs that fail alike; nothing if all is well."""
        text = ending.shown.decode(errors="replace")
        if ending.code not in documented():
            places = re.findall(r'File "\S*?/(\w+/\w+\.py)", line (\d+), in', ending.fault)
            last = " < ".join(f"{file}:{line}" for file, line in places[-1:-4:-1])
            kind = ending.fault.strip().splitlines()[-1][:80] if ending.fault else text[-200:]
            return f"exit code {ending.code}: {kind} at {last}"
        if "Traceback" in text:
            return f"a traceback is shown: {text[-200:]}"
        if sent := set(codes(text)) - {"\r", "\x85"}:
            return f"codes are sent: {sent}"
        return "a store that is read is changed" if changed else ""

    def check(self) -> None:
        """Nothing is wrong."""
        assert not self.wrong, "\n\n".join(f"{told}\n{given}" for told, given in self.wrong.items())


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    make_sources(folder)
    return folder


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    subject = Subject(tmp_path_factory.mktemp("subject"))
    yield subject
    subject.close()


@pytest.fixture
def fuzz(sources: Path, subject: Subject) -> Iterator[Fuzz]:
    with Store.open_readonly(sources / "store.duckdb") as store:
        sample = str(store.sql("SELECT min(sample_id) AS least FROM samples").column(0)[0])
    memory = Path("/dev/shm")  # DuckDB waits for disks; here nothing has to last
    with tempfile.TemporaryDirectory(prefix="rrti-fuzz-", dir=memory if memory.is_dir() else None) as folder:
        yield Fuzz(sources, Path(folder) / "a" / "b" / "c", subject, sample)


def give(fuzz: Fuzz, kind: str, start: int, count: int) -> None:
    """Draw so many inputs of a kind and give them; all are given before any complaint, so that one run finds all kinds."""
    strategy: st.SearchStrategy[object] = commands(fuzz.sample) if kind == "commands" else files(fuzz.sources)
    declared()  # imported before anything is drawn
    once = fuzz.typed if kind == "commands" else fuzz.read

    @seed(start)
    @settings(max_examples=count, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def drawn(value: object) -> None:
        once(value)  # type: ignore[arg-type]  # each of its own strategy

    drawn()
    assert fuzz.seen.total() >= count
    print(kind, dict(fuzz.seen))  # how often each exit code came
    fuzz.check()


@pytest.mark.parametrize("kind", ["commands", "files"])
def test_a_few_inputs(fuzz: Fuzz, kind: str) -> None:
    give(fuzz, kind, 0, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(1, CHUNKS + 1))
@pytest.mark.parametrize("kind", ["commands", "files"])
def test_ten_thousand_inputs(fuzz: Fuzz, kind: str, chunk: int) -> None:
    give(fuzz, kind, chunk, MANY)


def test_every_command_without_a_server_is_among_them() -> None:
    # Four serve or start servers, one takes no input, two ask the hub.
    without = {"serve", "api", "view", "demo", "db schema", "push", "pull"}
    assert set(BASES) == set(declared()) - without
    assert set(BASES) >= WRITING


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        (Ending(70, b"", 'File "/x/rrti_sgl/a/b.py", line 3, in c\nKeyError: 1'), "exit code 70: KeyError: 1 at a/b.py:3"),
        (Ending(-11, b""), "exit code -11"),
        (Ending(None, b""), "exit code None"),
        (Ending(2, b"Traceback (most recent call last)"), "a traceback is shown"),
        (Ending(0, b"\x1b[31m"), "codes are sent"),
    ],
)
def test_what_is_wrong_is_found(ending: Ending, told: str) -> None:
    assert Fuzz._wrong(ending, changed=False).startswith(told)
    assert Fuzz._wrong(Ending(0, b"fine"), changed=True) == "a store that is read is changed"
    assert Fuzz._wrong(Ending(0, b"fine"), changed=False) == ""
