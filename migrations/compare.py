"""What autogenerate may look at."""

from __future__ import annotations

from typing import Any


def include_name(name: str | None, type_: str, _parents: Any) -> bool:
    """Leave out Alembic's own table; views are no tables and are compared nowhere."""
    return not (type_ == "table" and name == "alembic_version")
