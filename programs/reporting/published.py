"""What the paper published, read from `published.toml`; never mixed with what was measured here.

A published number stands in a column or in rows of its own, marked as published, and every table that holds one names the
source and says that the setting is another one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("published.toml")
MEASURED, PUBLISHED = "measured", "published"
HEADING = "published †"


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """One number of the paper. `approximate`: it is given as "about". `setting`: what it was measured on."""

    key: str
    value: float
    setting: str
    approximate: bool = False


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One row of the paper's main table; None where it publishes nothing."""

    size: str
    program: str
    label: str
    accuracy: float
    pass_at_k: float
    rho: float | None = None
    recovery_pass: float | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """All published numbers and where they are from."""

    source: Mapping[str, str]
    values: Mapping[str, PublishedValue]
    rows: Sequence[PublishedRow]

    def value(self, key: str) -> float | None:
        """The number of that key, None where none is published."""
        found = self.values.get(key)
        return None if found is None else found.value

    @property
    def citation(self) -> str:
        """Authors, title and place."""
        source = self.source
        return f"{source['authors']}, {source['title']}, {source['venue']}, arXiv {source['arxiv']}"

    @property
    def note(self) -> str:
        """What † says wherever it stands."""
        return (
            f"† Published by {self.source['authors']} ({self.source['venue']}, arXiv {self.source['arxiv']}), not measured "
            f"here, in another setting: {self.source['setting']}."
        )

    def notes(self, *keys: str) -> list[str]:
        """The footnotes of a table that holds numbers of these keys: what † says, and what just these were measured on."""
        found = [self.values[key] for key in keys if key in self.values]
        said = dict.fromkeys(f"{value.setting} (about)" if value.approximate else value.setting for value in found)
        return [self.note, *([f"† here: {'; '.join(said)}."] if said else [])]


@cache
def load_published() -> Published:
    """The numbers of `published.toml`."""
    with PATH.open("rb") as file:
        content = tomllib.load(file)
    values = [PublishedValue(**entry) for entry in content["value"]]
    return Published(content["source"], {v.key: v for v in values}, [PublishedRow(**row) for row in content["row"]])
