"""What runs must have in common before they are compared or pooled."""

from __future__ import annotations

from collections.abc import Sequence

from rrti_sgl.db.analysis.needs import require_same
from rrti_sgl.records import RunRecord


def require_same_writer(records: Sequence[RunRecord], purpose: str) -> None:
    """Runs must be of one model that writes; the run of a model alone is that of either direction.

    Raises:
        UsageError: naming two runs and their base models.
    """
    common: set[str] | None = None
    for record in records:
        models = {record.base_model, record.reasoning_model if record.program in ("base", "reasoning") else None} - {None}
        common = {model for model in models if model is not None and (common is None or model in common)} or common
        if models and common is not None and common.isdisjoint(models):
            require_same_settings(records, ("base_model",), purpose)


def require_same_settings(records: Sequence[RunRecord], columns: Sequence[str], purpose: str) -> None:
    """Runs must agree in some fields of their records; None agrees with anything.

    Raises:
        UsageError: naming two runs and the field in which they differ.
    """
    require_same([{name: getattr(record, name) for name in ("run_id", *columns)} for record in records], columns, purpose)
