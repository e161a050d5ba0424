"""The configuration of a run says its kind.

Revision 0003, after 0002.
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Put the kind into every configuration; `config_hash` does not count it."""
    op.execute("""
        UPDATE runs SET config = json_merge_patch(config, json_object(
            'kind', CASE WHEN program IN ('score', 'frontend', 'counterfactual') THEN program ELSE 'run' END
        ))
    """)


def downgrade() -> None:
    """Take the kind out again: older versions refuse options that they do not know."""
    op.execute("UPDATE runs SET config = json_merge_patch(config, json_object('kind', NULL))")
