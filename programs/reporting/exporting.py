"""What `rrti export` can be asked for: a statistic, a training set, a table or view of the store, or one SELECT."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa

from rrti_sgl.db.queries import QUERIES, Runs, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.db.training_sets import TRAINING_SETS, training_rows
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.tables.table import Table, plain_table, stored_table


def rows_of(
    store: Store,
    source: str,
    *,
    run: Runs = None,
    timeout_s: float | None = None,
    most_bytes: int | None = None,
    **params: Any,
) -> pa.Table:
    """The rows of a statistic, of a training set, of a table or view, or of one SELECT.

    Args:
        store: where they are.
        source: the name of a statistic, of a training set or of a relation, or SQL.
        run: of a statistic or a training set: its runs.
        timeout_s: of a SELECT: stop after so many seconds.
        most_bytes: of a SELECT, a table or a view: that its rows may take.
        **params: of a statistic: its parameters.

    Raises:
        UsageError: a name that is neither a statistic nor a relation, or runs and parameters for what takes none.
        StoreError: the SQL does more than read, is wrong, or exceeds a limit.
    """
    if source in QUERIES:
        return run_query(store, source, run=run, **params)
    if source in TRAINING_SETS and not params:
        return training_rows(store, source, run)
    if run is not None or params:
        raise UsageError(
            f"Runs and parameters belong to a statistic; {source!r} is none.", "Filter with a SELECT ... WHERE."
        )
    if not re.fullmatch(r"\w+", source):
        return store.sql(source, timeout_s=timeout_s, most_bytes=most_bytes)
    relations = _relations(store)
    if source not in relations:
        raise UsageError(
            f"There is no statistic, table or view {source!r}.",
            f"Statistics: {', '.join(QUERIES)}. Training sets: {', '.join(TRAINING_SETS)}. Tables and views: "
            f"{', '.join(relations)}. Or give one SELECT.",
        )
    return store.sql(f'SELECT * FROM "{source}"', timeout_s=timeout_s, most_bytes=most_bytes)


def table_of(store: Store, source: str, **wanted: Any) -> Table:
    """What `rows_of` gives, as a table: what a SELECT names is shown as it is, known columns as what they are."""
    data = rows_of(store, source, **wanted)
    return plain_table(source, data) if re.fullmatch(r"\w+", source) else stored_table(data)


def _relations(store: Store) -> list[str]:
    query = "SELECT table_name FROM information_schema.tables WHERE table_name <> 'alembic_version' ORDER BY table_name"
    return [str(name) for name in store.sql(query).column(0).to_pylist()]
