"""The wheel holds everything and works outside the checkout."""

from __future__ import annotations

import contextlib
import email
import fcntl
import os
import pty
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import venv
import zipfile
from pathlib import Path

import pytest

from rrti_sgl import __version__
from rrti_sgl.db.queries import QUERIES
from tests.reporting.conftest import write_tiny

PACKAGES = next(Path(path) for path in sys.path if path.endswith("site-packages"))
ROOT = Path(__file__).resolve().parents[1]


def checkout_files(*folders: str) -> list[str]:
    """Files of the working tree that git knows or would take."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "--deduplicate", *folders]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return [path for path in listed if (ROOT / path).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    for path in checkout_files():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, source / path)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, capture_output=True)
    [built] = out.glob("*.whl")
    return built


def test_the_wheel_holds_every_package_and_data_file(wheel: Path) -> None:
    inside = set(zipfile.ZipFile(wheel).namelist())
    folders = {"rrti_sgl": "rrti_sgl", "programs": "rrti_sgl/programs", "db": "rrti_sgl/db", "cli": "rrti_sgl/cli"}
    folders["migrations"] = "rrti_sgl/migrations"
    tracked = [path for path in checkout_files(*folders) if not path.startswith("programs/explorer/front/")]
    expected = {folders[path.partition("/")[0]] + "/" + path.partition("/")[2] for path in tracked}
    assert expected <= inside
    assert {name.partition("/")[0] for name in inside} == {"rrti_sgl", wheel.name.split("-py3")[0] + ".dist-info"}


def test_its_description_has_no_link_that_leads_nowhere(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as inside:
        [name] = [name for name in inside.namelist() if name.endswith(".dist-info/METADATA")]
        told = email.message_from_bytes(inside.read(name))
    assert told["Version"] == __version__
    text = told.get_payload()
    assert isinstance(text, str)
    assert "## What it does" in text
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; its dependencies come from here, as no index is asked in tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    to = ["--python", folder / "bin" / "python"]
    command = [sys.executable, "-m", "pip", *to, "install", "--no-deps", "--quiet", wheel]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "bin"


def finished(command: list[str], cwd: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    """Dependencies are found through PYTHONPATH, whose .pth files are not read: the editable checkout is not."""
    environment = {**os.environ, "PYTHONPATH": str(packages), "COLUMNS": "80"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def test_the_wheel_runs_outside_the_checkout(bin_folder: Path, tmp_path: Path) -> None:
    [site] = bin_folder.parent.glob("lib/python*/site-packages")

    def rrti(*arguments: str) -> str:
        done = finished([str(bin_folder / "rrti"), *arguments], tmp_path, PACKAGES)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def printed(code: str) -> str:
        return finished([str(bin_folder / "python"), "-c", code], tmp_path, PACKAGES).stdout

    assert printed("import rrti_sgl.db as d; print(d.__file__)").startswith(str(site))
    for command in ("serve", "calibrate", "run", "stats", "show", "sql", "db", "demo"):
        assert command in rrti("--help")
    rrti("db", "upgrade", "new.duckdb")
    assert '"runs": 0' in rrti("sql", "SELECT count(*) AS runs FROM runs", "--db", "new.duckdb", "--json")
    bundled = "from rrti_sgl.tinypair.bundle import bundled_pair; print(bundled_pair().reasoning)"
    assert printed(bundled).startswith(str(site))


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a plain installation has: neither PyTorch nor SGLang."""
    folder = tmp_path_factory.mktemp("packages")
    for entry in PACKAGES.iterdir():
        if not entry.name.startswith(("torch", "sglang", "triton", "functorch")):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def store_folder(tmp_path: Path) -> Path:
    write_tiny(tmp_path / "traces.duckdb")
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["whatif", "base", "--tau", "1"],
        ["export", "runs", "--out", "runs.csv"],
        ["experiment", "demo", "--dry-run"],
    ],
    ids=" ".join,
)
def test_without_sglang_and_torch_what_needs_no_server_works(
    arguments: list[str], bin_folder: Path, store_folder: Path, packages: Path
) -> None:
    """Beside what is typed in the second ten minutes, below."""
    done = finished([str(bin_folder / "rrti"), *arguments], store_folder, packages)
    assert done.returncode == 0, done.stderr
    assert "PyTorch" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [["demo"], ["run", "base"], ["serve"], ["serve", "--fused"], ["calibrate"]], ids=" ".join
)
def test_without_sglang_a_line_says_how_to_get_servers(
    arguments: list[str], bin_folder: Path, store_folder: Path, packages: Path
) -> None:
    done = finished([str(bin_folder / "rrti"), *arguments], store_folder, packages)
    assert done.returncode == 2, done.stderr
    first, *remedy = done.stderr.splitlines()
    assert first == "error: SGLang is not installed beside rrti-sgl, so no server can be started here."
    assert "make demo" in " ".join(remedy)


# In one process: each alone would be a second of imports.
EACH_STATISTIC = """
from rrti_sgl.cli import main
from rrti_sgl.db.queries import QUERIES
for name in QUERIES:
    main.run(["stats", name])
    print(end="\\x1e", flush=True)
"""


def settled(text: str) -> str:
    """What stays: a line of progress is written over itself."""
    return text.rpartition("\r")[2]


class Terminal:
    """A terminal of 80 columns in an environment with nothing in it."""

    def __init__(self, folder: Path, commands: Path, packages: Path) -> None:
        self._folder, self._commands = folder, commands
        self._environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        self._environment["PYTHONPATH"] = str(packages)

    def type(self, line: str, code: int = 0, **environment: str) -> str:
        """What appears after a command, without styles; its exit code is `code`."""
        return settled(self.run("rrti", *shlex.split(line), code=code, **environment))

    def run(self, program: str, *arguments: str, code: int = 0, **environment: str) -> str:
        """The same of a program of the environment."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 80, 0, 0))
        command = [str(self._commands / program), *arguments]
        process = subprocess.Popen(
            command, cwd=self._folder, env=self._environment | environment, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        written = b""
        with contextlib.suppress(OSError):  # the end of a terminal that nobody writes to
            while read := os.read(ours, 65_536):
                written += read
        os.close(ours)
        ended = process.wait()
        assert ended == code, (arguments, written.decode())
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.decode()).replace("\r\n", "\n")


def test_the_second_ten_minutes(bin_folder: Path, store_folder: Path, packages: Path) -> None:
    terminal = Terminal(store_folder, bin_folder, packages)

    def shown(line: str, code: int = 0, most: int = 50, **environment: str) -> str:
        text = terminal.type(line, code, **environment)
        lines = text.splitlines()
        # A message is one line, so that the command in it can be copied.
        assert code or max(map(len, lines)) <= 80, (line, text)
        assert len(lines) <= most, (line, text)
        return text

    # What is there, and which of it: no ids to look up elsewhere.
    runs = shown("runs")
    assert all(f"{program}-1" in runs for program in ("diagnose", "base", "guided", "reasoning"))
    assert "Next:" in runs
    listed = shown("samples --wrong")
    assert "rrti show" in listed
    sample = re.findall(r"^ ([0-9a-f]{12}) ", listed, re.MULTILINE)[0]
    assert "put right" in shown("samples --flipped")
    assert "accuracy" in shown("compare base guided")
    # Each statistic that these runs have, as a headline on one screen.
    answered = set()
    typed = terminal.run("python", "-c", EACH_STATISTIC).split("\x1e")[:-1]
    for name, text in zip(QUERIES, map(settled, typed), strict=True):
        if not text.startswith("error"):
            answered.add(name)
            assert max(map(len, text.splitlines())) <= 80, text
            assert len(text.splitlines()) <= 50, (name, text)
    assert answered >= {
        "accuracy",
        "sparsity",
        "takeovers",
        "flips",
        "cost",
        "planning",
        "position",
        "uncertainty",
        "failure",
    }
    # A sample, coloured and not; a line of SQL with lists in it.
    assert "[" in shown(f"show {sample}", NO_COLOR="1")
    assert "nats" in shown(f"show {sample}")
    assert "...] (" in shown("sql 'SELECT list(ce) FROM tokens'")
    assert "revision" in shown("db info --db traces.duckdb")
    # What was meant, and what is missing.
    assert "Did you mean" in shown("runz", 2)
    assert "SGLang is not installed" in shown("demo", 2)
    assert "<bool>" not in shown("run --help", most=300)
    # The report says what it does while it does it, and where it is.
    assert "report.html" in terminal.type("report", 0)
    # Off a terminal: a row a line, tab-separated.
    done = finished([str(bin_folder / "rrti"), "stats", "accuracy"], store_folder, packages)
    header, *rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert {len(row) for row in rows} == {len(header)}
    assert len(rows) == 4
