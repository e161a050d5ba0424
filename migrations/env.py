"""Alembic's environment: runs on the connection that `rrti_sgl.migrations` hands over.

Views hold no data and follow the tables, so no revision names them: they are dropped before any step and, when the
store ends at the newest revision, created again from `db/views.sql`.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from rrti_sgl.db.models import Base
from rrti_sgl.migrations import VIEWS_FILE, head
from rrti_sgl.migrations.compare import include_name


def drop_views(connection: Connection) -> None:
    """Drop every view of the store."""
    names = connection.exec_driver_sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").scalars().all()
    for name in names:
        connection.exec_driver_sql(f'DROP VIEW "{name}"')


def create_views(connection: Connection) -> None:
    """Create the views of the newest schema."""
    connection.exec_driver_sql(VIEWS_FILE.read_text(encoding="utf-8"))


def run(connection: Connection) -> None:
    """Run the migration that Alembic was asked for, views included."""
    context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True, include_name=include_name)
    drop_views(connection)
    context.run_migrations()
    if context.get_context().get_current_revision() == head():
        create_views(connection)


run(context.config.attributes["connection"])
