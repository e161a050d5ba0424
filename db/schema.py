"""The schema reference as Markdown, generated from the models, and what a store file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rrti_sgl import migrations
from rrti_sgl.db.store import Store

TABLES = ("runs", "calibrations", "problems", "samples", "tokens")
HEAD = """# The trace store

A DuckDB file of five tables, schema revision {revision}. This page is generated: `rrti db schema > docs/schema.md`.
Log-probabilities, divergences and entropies are in nats at temperature 1, times in milliseconds, timestamps in UTC.
NULL means "not computed", never zero. Keys are marked with a star; `tokens` has none, its rows are unique by
`run_id, sample_id, position`.
"""
VIEWS_HEAD = """
## Views

Joins that most questions need; created by every upgrade from this file.

```sql
{views}
```
"""


def schema_markdown() -> str:
    """The schema reference page: every table and column with type, meaning and unit, and the views."""
    from duckdb_sqlalchemy import Dialect

    from rrti_sgl.db.models import Base

    dialect = Dialect()
    lines = [HEAD.format(revision=migrations.head())]
    for name in TABLES:
        table = Base.metadata.tables[name]
        lines += [f"## {name}", "", str(table.comment), "", "| column | type | NULL | meaning |", "|---|---|---|---|"]
        for column in table.columns:
            star = " *" if column.primary_key else ""
            null = "yes" if column.nullable else ""
            meaning = str(column.comment).replace("|", "\\|")
            lines.append(f"| `{column.name}`{star} | {_type_name(column.type.compile(dialect))} | {null} | {meaning} |")
        lines.append("")
    views = migrations.VIEWS_FILE.read_text(encoding="utf-8").strip()
    return "\n".join(lines).rstrip() + "\n" + VIEWS_HEAD.format(views=views)


def _type_name(sql: str) -> str:
    return sql.removesuffix(" WITHOUT TIME ZONE")


def describe(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a store file holds.

    Returns:
        Its path, schema revision, size in bytes and the rows of each table; and a row for each run, oldest first.
    """
    with Store.open_readonly(path) as store:
        counts = ", ".join(f"(SELECT count(*) FROM {name}) AS {name}" for name in TABLES)
        totals = store.sql(f"SELECT {counts}").to_pylist()[0]
        runs = store.sql(
            "SELECT run_id, program, status, n_samples, n_tokens, rho, accuracy FROM run_view ORDER BY created_at, run_id"
        ).to_pylist()
    facts = {"path": str(path), "revision": migrations.head(), "bytes": path.stat().st_size}
    return facts | totals, runs
