"""What runs must have in common before they are compared or pooled."""

from __future__ import annotations

from collections.abc import Sequence

from rrti_sgl.db.analysis.needs import require_same
from rrti_sgl.records import RunRecord


def require_same_settings(records: Sequence[RunRecord], columns: Sequence[str], purpose: str) -> None:
    """Runs must agree in some fields of their records; None agrees with anything.

    Raises:
        UsageError: naming two runs and the field in which they differ.
    """
    require_same([{name: getattr(record, name) for name in ("run_id", *columns)} for record in records], columns, purpose)
