"""The configuration of a run says its kind; comments of the compact columns follow from those of the exact ones.

Revision 0003, after 0002.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from alembic import op
from sqlalchemy import text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS = ("score", "frontend", "counterfactual")  # programs that are kinds of their own; all others are of the kind "run"
SINGLE = "As in `tokens`, in single precision; NULL too where `score` is its copy."
BEFORE = "{} Single precision; NULL too where `score` is its copy."
# Table, column, comment before and after.
COMMENTS = (
    (
        "runs", "config", "Every option of the run, defaults included.",
        "Every option of the run, defaults included, and its kind: run, score, frontend, counterfactual.",
    ),
    (
        "stored_samples", "finish_reason", "stop (end token) or length (limit).",
        "stop (end token), length (limit) or unknown (a given text that does not say how it ended).",
    ),
    (
        "exact_tokens", "js", "Jensen-Shannon divergence, in nats (at most ln 2).",
        "Jensen-Shannon divergence (at most ln 2), in nats.",
    ),
    ("compact_tokens", "ce", BEFORE.format("Cross-entropy."), SINGLE),
    ("compact_tokens", "kl", BEFORE.format("Forward KL."), SINGLE),
    ("compact_tokens", "reverse_kl", BEFORE.format("Reverse KL."), SINGLE),
    ("compact_tokens", "js", BEFORE.format("Jensen-Shannon divergence."), SINGLE),
    ("compact_tokens", "tv", BEFORE.format("Total variation distance."), SINGLE),
    ("compact_tokens", "entropy_base", BEFORE.format("Entropy of the base distribution."), SINGLE),
    ("compact_tokens", "entropy_reasoning", BEFORE.format("Entropy of the reasoning distribution."), SINGLE),
    (
        "compact_tokens", "local_mean", "Mean score of the window before the token, exactly.",
        "Mean score of the window before the token, in the unit of the metric.",
    ),
    (
        "compact_tokens", "planning_tag", "Category of the planning word it belongs to.",
        "Category of the planning word it belongs to; NULL: not a planning word.",
    ),
    (
        "compact_tokens", "planted", "1 at planted decision points, 0 elsewhere.",
        "1 at planted decision points, 0 elsewhere; NULL where a world plants none.",
    ),
)  # fmt: skip


def upgrade() -> None:
    """Put the kind into every configuration; `config_hash` does not count it."""
    _change(lambda program, config: {**config, "kind": program if program in KINDS else "run"})
    for table, column, _, after in COMMENTS:
        _comment(table, column, after)


def downgrade() -> None:
    """Take the kind out again: older versions refuse options that they do not know."""
    _change(lambda _, config: {name: value for name, value in config.items() if name != "kind"})
    for table, column, before, _ in COMMENTS:
        _comment(table, column, before)


def _change(change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    connection = op.get_bind()
    for run_id, program, config in connection.exec_driver_sql("SELECT run_id, program, config::VARCHAR FROM runs").all():
        changed = json.dumps(change(program, json.loads(config)), ensure_ascii=False, sort_keys=True)
        statement = text("UPDATE runs SET config = :config WHERE run_id = :run")
        connection.execute(statement, {"config": changed, "run": run_id})


def _comment(table: str, column: str, comment: str) -> None:
    op.execute(text(f"COMMENT ON COLUMN {table}.{column} IS '{comment}'"))
