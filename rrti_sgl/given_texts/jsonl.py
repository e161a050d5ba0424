"""JSON Lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from rrti_sgl.given_texts.complaints import Complaints
from rrti_sgl.given_texts.fields import Place, Row


def rows(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, object) of every line that is one; empty lines are passed over, others are complained of."""
    with path.open("rb") as lines:
        for number, raw in enumerate(lines, 1):
            if not raw.strip():
                continue
            place = f"{path}, line {number}"
            try:
                row = json.loads(raw.decode())
            except UnicodeDecodeError:
                complaints.add(place, "not UTF-8")
                continue
            except json.JSONDecodeError as error:
                complaints.add(place, f"no valid JSON ({error.msg} at column {error.colno})")
                continue
            if isinstance(row, dict):
                yield place, row
            else:
                complaints.add(place, f"a {type(row).__name__}, not an object")
