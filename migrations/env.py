"""Alembic's environment: runs on the connection that `rrti_sgl.migrations` hands over.

Views hold no data and follow the tables, so no revision names them: they are dropped before any step and, when the
store ends at the newest revision, created again from `db/views.sql`.
"""

from __future__ import annotations

from pathlib import Path

from alembic import context
from sqlalchemy import Connection

from rrti_sgl.db import relations
from rrti_sgl.db.models import METADATA
from rrti_sgl.migrations import head
from rrti_sgl.migrations.compare import include_name


def drop_views(connection: Connection) -> None:
    """Drop every view of the store."""
    names = connection.exec_driver_sql("SELECT view_name FROM duckdb_views() WHERE NOT internal").scalars().all()
    relations.drop_views(connection.exec_driver_sql, names)


def create_views(connection: Connection, store: Path) -> None:
    """Create the views of the newest schema."""
    run_ids = connection.exec_driver_sql("SELECT run_id FROM sealed_runs ORDER BY run_id").scalars().all()
    relations.create_views(connection.exec_driver_sql, [relations.runs_folder(store) / run_id for run_id in run_ids])
    relations.note_location(connection.exec_driver_sql, store)


def run(connection: Connection, store: Path) -> None:
    """Run the migration that Alembic was asked for, views included."""
    context.configure(connection=connection, target_metadata=METADATA, compare_type=True, include_name=include_name)
    drop_views(connection)
    context.run_migrations()
    if context.get_context().get_current_revision() == head():
        create_views(connection, store)


run(context.config.attributes["connection"], context.config.attributes["store"])
