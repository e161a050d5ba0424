"""Finds and reads experiment files: the shipped ones by name, others by path."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rrti_sgl.errors import ExperimentFileError, UsageError
from rrti_sgl.programs.experiments.complaints import Complaints
from rrti_sgl.programs.experiments.locations import locate
from rrti_sgl.programs.experiments.sections import read_experiment
from rrti_sgl.programs.experiments.spec import ExperimentSpec
from rrti_sgl.programs.experiments.tables import TableReader


@dataclass(frozen=True, slots=True)
class LoadedExperiment:
    """A file's content with the faults that were found in it so far; more are found where models and problems are known."""

    spec: ExperimentSpec
    complaints: Complaints


def shipped() -> list[str]:
    """Names of the experiments that come with the package."""
    return sorted(entry.name.removesuffix(".toml") for entry in _folder().iterdir() if entry.name.endswith(".toml"))


def shipped_text(name: str) -> str:
    """The text of a shipped experiment, to begin one's own with."""
    return _folder().joinpath(f"{name}.toml").read_text(encoding="utf-8")


def load_experiment(source: str) -> LoadedExperiment:
    """Read an experiment; faults are collected, not raised.

    Args:
        source: name of a shipped experiment, or the path of a file. Paths in a file are relative to its folder.

    Raises:
        UsageError: there is neither.
        ExperimentFileError: the file is no TOML.
    """
    path = Path(source)
    if source in shipped():
        name, text, folder = f"{source}.toml", shipped_text(source), Path()
    elif path.is_file():
        name, folder = source, path.parent
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ExperimentFileError(f"{source} is no UTF-8 (byte {error.start}).", "Save the file as UTF-8.") from error
    else:
        raise UsageError(
            f"There is no experiment {source!r}: no such file, and none of that name is shipped.",
            f"Name a file, or one of {', '.join(shipped())}.",
        )
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ExperimentFileError(f"{name} is no TOML: {error}.", "Correct that line.") from error
    complaints = Complaints(name, locate(text))
    return LoadedExperiment(read_experiment(TableReader((), content, complaints), name, folder), complaints)


def _folder() -> Path:
    return Path(str(files("rrti_sgl.programs.experiments")))
