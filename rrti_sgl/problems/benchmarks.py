"""Benchmarks by name: the records of `benchmarks.toml`, and their rows, from a local file or from the hub."""

from __future__ import annotations

import logging
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.problems.fields import FieldMap, problems_of
from rrti_sgl.problems.selection import Part
from rrti_sgl.records import ProblemRecord
from rrti_sgl.rows import Complaints, Place, Row, find_file, rows_of

logger = logging.getLogger(__name__)

FOLDER_VARIABLE = "RRTI_PROBLEMS"


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark; the fields are explained in `benchmarks.toml`."""

    name: str
    title: str
    hub: str
    split: str
    fields: FieldMap
    count: int
    licence: str
    grader: str
    base_template: str
    reasoning_template: str
    max_new_tokens: int
    config: str | None = None
    calibration_split: str | None = None
    confidential: bool = False

    def split_of(self, part: Part) -> str:
        """The dataset's split that a part is taken from."""
        return self.calibration_split if part == "calibration" and self.calibration_split else self.split

    def file_stem(self, part: Part) -> str:
        """Name, without its ending, of the local file that stands for that split."""
        split = self.split_of(part)
        return self.name if split == self.split else f"{self.name}-{split}"

    def load(self, part: Part = "all") -> list[ProblemRecord]:
        """All problems of the split that a part is taken from: a local file's, or else the hub's.

        Raises:
            UsageError: there is no file and the hub gives nothing; says which file to put where.
            ProblemFileError: fields are missing.
        """
        path, complaints = find_file(problem_folder() / self.file_stem(part)), Complaints()
        rows = rows_of(path, complaints) if path else self._hub_rows(part)
        problems = problems_of(rows, self.name, self.fields, complaints)
        if self.split_of(part) == self.split and len(problems) != self.count:
            logger.warning("%s has %d problems here, not the %d it is known for", self.name, len(problems), self.count)
        return problems

    def _hub_rows(self, part: Part) -> Iterator[tuple[Place, Row]]:
        from datasets import load_dataset

        split = self.split_of(part)
        try:
            dataset = load_dataset(self.hub, self.config, split=split)
        except Exception as error:  # datasets raises many kinds for one cause: it is not to be had
            reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
            needed = [self.fields.question, self.fields.right or self.fields.answer, *self.fields.wrong]
            raise UsageError(
                f"{self.title} cannot be loaded from the hub ({type(error).__name__}: {reason}).",
                f"Put it at {problem_folder() / self.file_stem(part)}.jsonl (or .parquet, .csv) with the fields "
                f"{', '.join(needed)}: split {split!r}{f' of configuration {self.config!r}' if self.config else ''} of "
                f"https://huggingface.co/datasets/{self.hub}. Another folder: {FOLDER_VARIABLE}.",
            ) from error
        return ((f"{self.hub}, {split}, row {number}", row) for number, row in enumerate(dataset, 1))


def problem_folder() -> Path:
    """Where local files of benchmarks are looked for: $RRTI_PROBLEMS, or rrti-sgl/problems in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get(FOLDER_VARIABLE) or cache / "rrti-sgl" / "problems")


def _read() -> dict[str, Benchmark]:
    text = files("rrti_sgl.problems").joinpath("benchmarks.toml").read_text(encoding="utf-8")
    return {name: Benchmark(name=name, **_with_fields(entry)) for name, entry in tomllib.loads(text).items()}


def _with_fields(entry: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in entry["fields"].items()
    }
    return {**entry, "fields": FieldMap(**fields)}


BENCHMARKS = _read()
