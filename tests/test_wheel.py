"""The wheel holds everything and works outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

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
    tracked = checkout_files(*folders)
    expected = {folders[path.partition("/")[0]] + "/" + path.partition("/")[2] for path in tracked}
    assert expected <= inside
    assert {name.partition("/")[0] for name in inside} == {"rrti_sgl", wheel.name.split("-py3")[0] + ".dist-info"}


def test_the_wheel_runs_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own; only the dependencies come from here, as no index is asked in tests."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--no-deps", "--quiet", wheel], check=True, capture_output=True)
    [site] = (tmp_path / "venv").glob("lib/python*/site-packages")
    own_site = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {**os.environ, "PYTHONPATH": own_site, "COLUMNS": "80"}
    # Dependencies are found through PYTHONPATH, whose .pth files are not read: the editable checkout is not.

    def rrti(*arguments: str) -> str:
        command = [str(tmp_path / "venv" / "bin" / "rrti"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def printed(code: str) -> str:
        command = [str(python), "-c", code]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout

    assert printed("import rrti_sgl.db as d; print(d.__file__)").startswith(str(site))
    for command in ("serve", "calibrate", "run", "stats", "show", "sql", "db", "demo"):
        assert command in rrti("--help")
    rrti("db", "upgrade", "new.duckdb")
    assert '"runs": 0' in rrti("sql", "SELECT count(*) AS runs FROM runs", "--db", "new.duckdb", "--json")
    bundled = "from rrti_sgl.tinypair.bundle import bundled_pair; print(bundled_pair().reasoning)"
    assert printed(bundled).startswith(str(site))
