"""Alembic's environment: runs on the connection that `rrti_sgl.migrations` hands over.

Views and comments hold no data and follow from what is declared, so no revision names them: views are dropped before any
step, and where the store ends at the newest revision, both are made anew.
"""

from __future__ import annotations

from pathlib import Path

from alembic import context
from sqlalchemy import Connection

from rrti_sgl.db import relations
from rrti_sgl.migrations import head


def run(connection: Connection, store: Path) -> None:
    """Run the migration that Alembic was asked for, views and comments included."""
    opened = connection.connection.driver_connection
    assert opened is not None
    context.configure(connection=connection)
    relations.drop_views(opened)
    context.run_migrations()
    if context.get_context().get_current_revision() == head():
        relations.refresh_views(opened, store)
        relations.write_comments(opened)


run(context.config.attributes["connection"], context.config.attributes["store"])
