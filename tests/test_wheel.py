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

from rrti_sgl.db.store import Store
from tests.db.conftest import make_problem, make_run, make_trace

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
    tracked = checkout_files(*folders)
    expected = {folders[path.partition("/")[0]] + "/" + path.partition("/")[2] for path in tracked}
    assert expected <= inside
    assert {name.partition("/")[0] for name in inside} == {"rrti_sgl", wheel.name.split("-py3")[0] + ".dist-info"}


@pytest.fixture(scope="module")
def bin_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; its dependencies come from here, as no index is asked in tests."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    command = [folder / "bin" / "python", "-m", "pip", "install", "--no-deps", "--quiet", wheel]
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


def test_without_sglang_and_torch_what_needs_no_server_works(bin_folder: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    for entry in PACKAGES.iterdir():
        if not entry.name.startswith(("torch", "sglang", "triton", "functorch")):
            (packages / entry.name).symlink_to(entry)
    with Store.open(tmp_path / "traces.duckdb") as store:
        store.add_problems([make_problem("p0"), make_problem("p1")])
        for program in ("base", "guided"):
            gate = {"gate": "divergence"} if program == "guided" else {"gate": "never", "tau": None}
            store.begin_run(make_run(f"{program}-1", program=program, n_problems=2, samples_per_problem=1, **gate))
            traces = [make_trace(f"{program}-1", f"p{i}", 0, [0.5, 2.0], correct=program != "base") for i in range(2)]
            store.write_samples(traces)
    sample = traces[0].sample.sample_id
    for arguments in (
        *(
            ["sql", "SELECT 1"],
            ["runs"],
            ["samples"],
            ["compare", "base", "guided"],
            ["show", sample],
            ["stats", "accuracy"],
        ),
        *(["report"], ["whatif", "base", "--tau", "1"], ["export", "runs", "--out", "runs.csv"], ["db", "info"]),
        ["experiment", "demo", "--dry-run"],
    ):
        done = finished([str(bin_folder / "rrti"), *arguments], tmp_path, packages)
        assert done.returncode == 0, (arguments, done.stderr)
        assert "PyTorch" not in done.stderr, (arguments, done.stderr)
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "so 8 9"}\n')
    for arguments in (["demo"], ["run", "base"], ["serve"], ["serve", "--fused"], ["calibrate"], ["experiment", "demo"]):
        done = finished([str(bin_folder / "rrti"), *arguments], tmp_path, packages)
        assert done.returncode == 2, (arguments, done.stderr)
        first, *remedy = done.stderr.splitlines()
        assert first == "error: SGLang is not installed beside rrti-sgl, so no server can be started here.", arguments
        assert "make demo" in " ".join(remedy)
