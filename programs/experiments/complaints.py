"""Collects what is wrong with an experiment file, so that all of it is told at once, each fault with its line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rrti_sgl.errors import ExperimentFileError, RRTIError, Spelling, spelled
from rrti_sgl.programs.experiments.locations import Path, dotted, line_of
from rrti_sgl.programs.options import declared
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.settings import RunSettings

_NAMES = {entry.field: name for name, entry in declared(RunSettings, GateOptions).items()} | {
    f"{side}_{what}": what for side in ("base", "reasoning") for what in ("prompt", "template", "flags")
}


class Keys(Spelling):
    """Arguments as keys of an experiment file."""

    def argument(self, name: str, value: Any, text: str) -> str:
        """A key, with a value as it is written there."""
        said = text if value is ... else json.dumps(value, default=str)
        return f"{_NAMES.get(name, name)} = {said}" if said else _NAMES.get(name, name)

    def command(self, name: str, options: dict[str, Any]) -> str:
        """The experiment does by itself what commands do one by one: what is missing is made by running it."""
        return "rrti experiment"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One fault.

    Args:
        line: of the file, from 1; None where the field is not in it.
        field: which, as `evaluations[0].limit`; "" for the file itself.
        message: what is wrong, and what to do.
    """

    line: int | None
    field: str
    message: str

    def __str__(self) -> str:
        place = ", ".join(filter(None, (f"line {self.line}" if self.line else "", self.field)))
        return f"{place}: {self.message}" if place else self.message


@dataclass
class Complaints:
    """The faults of one file, so far.

    Args:
        source: the file's name, for the message.
        lines: lines of its keys (`rrti_sgl.programs.experiments.locations`).
    """

    source: str
    lines: Mapping[Path, int] = field(default_factory=dict)
    found: list[Complaint] = field(default_factory=list)

    def add(self, path: Path, message: str) -> None:
        """Note a fault; one that is known already is not repeated."""
        complaint = Complaint(line_of(self.lines, path), dotted(path), message)
        if complaint not in self.found:
            self.found.append(complaint)

    @contextlib.contextmanager
    def noting(self, path: Path) -> Iterator[None]:
        """Note the error that the block raises on purpose, if it does, as a fault of that field, and go on."""
        try:
            with spelled(Keys()):
                yield
        except RRTIError as error:
            self.add(path, str(error))

    def raise_if_any(self) -> None:
        """Tell all faults, in the order of the file.

        Raises:
            ExperimentFileError: there are some.
        """
        if not self.found:
            return
        ordered = sorted(self.found, key=lambda complaint: complaint.line or 0)
        counted = "1 fault" if len(ordered) == 1 else f"{len(ordered)} faults"
        listed = "".join(f"\n  {complaint}" for complaint in ordered)
        raise ExperimentFileError(
            f"{self.source} has {counted}; nothing was started.{listed}",
            "Correct the file; docs/experiments.md explains every field.",
        )
