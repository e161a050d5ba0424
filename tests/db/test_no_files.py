"""Pipes and devices where a file is meant: nothing waits for a writer that never comes, nothing is read without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rrti_sgl.cli import main


@pytest.mark.parametrize(
    "command", ["sql SELECT(1) --db", "db info", "db upgrade", "db vacuum", "run base --db", "stats accuracy --db"]
)
def test_a_store_that_is_a_pipe(tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert main.run([*command.split(), str(tmp_path / "pipe")]) == 8
    assert "is a pipe and no file" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["pipe", "device", "long"])
def test_a_manifest_that_never_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str], what: str) -> None:
    folder = tmp_path / "sealed" / "run-x"
    folder.mkdir(parents=True)
    manifest = folder / "manifest.json"
    match what:
        case "pipe":
            os.mkfifo(manifest)
        case "device":
            manifest.symlink_to("/dev/zero")
        case "long":
            manifest.write_bytes(b" " * 2**21)
    assert main.run(["db", "attach", str(tmp_path / "sealed"), str(tmp_path / "store.duckdb")]) == 8
    assert "it is no file, or far too long" in capfd.readouterr().err
