"""Revisions of the trace store's schema and the functions that apply them; there is no alembic.ini.

Alembic and SQLAlchemy are imported inside the functions: opening a store that is up to date needs neither.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

HERE = Path(__file__).resolve().parent
VIEWS_FILE = HERE.parent / "db" / "views.sql"


def revisions() -> list[str]:
    """All revisions that this package knows, oldest first: the numbers that the files in `versions/` start with."""
    return sorted(path.name.split("_")[0] for path in (HERE / "versions").glob("[0-9]*_*.py"))


def head() -> str:
    """The revision that this package reads and writes."""
    return revisions()[-1]


def upgrade(path: Path, revision: str = "head") -> None:
    """Bring the DuckDB file at `path` to `revision`, in one transaction; creates the file if there is none.

    Raises:
        StoreLockedError, StoreError: the file cannot be opened, as `rrti_sgl.db.connection.connect` says it.
    """
    from alembic import command

    _run(command.upgrade, path, revision)


def downgrade(path: Path, revision: str) -> None:
    """Take the DuckDB file at `path` back to `revision` ("base" drops every table), in one transaction."""
    from alembic import command

    _run(command.downgrade, path, revision)


def _run(command: Callable[[Config, str], None], path: Path, revision: str) -> None:
    import duckdb
    from alembic.config import Config
    from sqlalchemy import URL, create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    from rrti_sgl.db.connection import open_error

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    # Whole, as DuckDB takes `http:/x` for a file on the network; by name, as after a question mark a URL has options.
    engine = create_engine(URL.create("duckdb", database=str(path.absolute())), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            config.attributes |= {"connection": connection, "store": path}
            command(config, revision)
    except DBAPIError as error:
        if not isinstance(error.orig, duckdb.IOException):
            raise
        raise open_error(path, str(error.orig)) from error
    finally:
        engine.dispose()
