"""What the samples of sealed runs add up to lies in the file, so that listing runs opens none of theirs.

Views of the newest schema are made afterwards, and with them the totals of runs that were sealed before.

Revision 0004, after 0003.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = {
    "n_takeovers": "BIGINT", "n_graded": "BIGINT", "n_correct": "BIGINT", "n_problems": "BIGINT", "problems": "VARCHAR"
}  # fmt: skip


def upgrade() -> None:
    """Add the columns, empty."""
    for name, kind in COLUMNS.items():
        op.execute(f"ALTER TABLE sealed_runs ADD COLUMN {name} {kind}")


def downgrade() -> None:
    """Drop them; the files say the same."""
    for name in COLUMNS:
        op.drop_column("sealed_runs", name)
