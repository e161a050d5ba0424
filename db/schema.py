"""The schema reference as Markdown, generated from the declared tables, and what a store file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rrti_sgl import migrations
from rrti_sgl.db import quantisation, relations
from rrti_sgl.db.store import Store
from rrti_sgl.db.tables import TABLES

# Relations that SQL reads -> the table whose columns they have.
RELATIONS = {name: name for name in ("runs", "calibrations", "problems")}
RELATIONS |= {"samples": "stored_samples", "tokens": "exact_tokens"}
HEAD = """# The trace store

Five relations, schema revision {revision}. This page is generated: `rrti db schema > docs/schema.md`.
Log-probabilities, divergences and entropies are in nats at temperature 1, times in milliseconds, timestamps in UTC.
NULL means "not computed", never zero. Keys are marked with a star; `tokens` has none, its rows are unique by
`run_id, sample_id, position`.

`runs`, `calibrations` and `problems` are tables of the DuckDB file `STORE.duckdb`. `samples` and `tokens` are views: they
span the file and the Parquet files of sealed runs, one folder `STORE.runs/RUN` each. How tokens are kept, and how precisely,
is said at the end of the page.
"""
LAYOUT_HEAD = """
## How tokens are kept

The compact layout is the default. `score` and `local_mean`, which decided, are exact, and so is the metric that the scores
are. The other metrics, log-probabilities of single tokens and masses are in single precision: within {real:.1e} of their
value. A log-probability -x of a list is within {logprob:.4f} * (0.25 + x) nats: 0.005 near 0, 0.023 at 1, 0.19 at 10; its
probability is within 0.009. So lists serve to look at, and to estimate what another k would give; what was computed from
them is stored beside them, as precisely as said. A sample with a number outside these bounds is kept exactly, whole.

Where the `top_k_mass` of a run's configuration is below 1, a list ends with the first entry by which it holds that share of
all probability, in either layout: lists are of different lengths, and hold less. Metrics and tail masses are of all `k`
tokens.

`rrti db precision exact FILE` (in Python `Store.open(path, precision="exact")`) keeps every number of every sample from then
on, at about twice the bytes; the file remembers it.

Tables of the file beneath `samples` and `tokens`: `stored_samples` with the columns of `samples`, `exact_tokens` with those
of `tokens`, `compact_tokens`, `sealed_runs` and `store_settings`. A sealed folder has a `TABLE.parquet` of each of `runs`,
`problems`, `calibrations`, `stored_samples`, `exact_tokens` and `compact_tokens`, and `manifest.json` with their rows
and SHA-256 sums; so has a part of a run, which `rrti db attach` takes.
"""
BENEATH = ("compact_tokens", "sealed_runs", "store_settings")
VIEWS_HEAD = """
## Views

The relations above where they are views, and joins that most questions need; made by every upgrade from this file.

```sql
{views}
```
"""


def schema_markdown() -> str:
    """The schema reference page: every relation and column with type, meaning and unit, the views and the layouts."""
    lines = [HEAD.format(revision=migrations.head())]
    for name, table in RELATIONS.items():
        lines += _table(name, table)
    page = "\n".join(lines).rstrip() + "\n" + VIEWS_HEAD.format(views=relations.views_sql().strip())
    layout = [LAYOUT_HEAD.format(real=quantisation.REAL_ERROR, logprob=quantisation.LOGPROB_ERROR)]
    for name in BENEATH:
        layout += _table(name, name, level="###")
    return page + "\n".join(layout).rstrip() + "\n"


def _table(title: str, table_name: str, level: str = "##") -> list[str]:
    table = TABLES[table_name]
    lines = [f"{level} {title}", "", table.comment, "", "| column | type | NULL | meaning |", "|---|---|---|---|"]
    for column in table.columns:
        star, null = " *" if column.key else "", "yes" if column.null else ""
        meaning = column.comment.replace("|", "\\|")
        lines.append(f"| `{column.name}`{star} | {column.type} | {null} | {meaning} |")
    return [*lines, ""]


def describe(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a store file holds.

    Returns:
        Its path, schema revision, precision, size in bytes (of the file, and of its sealed runs) and the rows of each
        relation; and a row for each run, oldest first.
    """
    with Store.open_readonly(path) as store:
        counts = [f"(SELECT count(*) FROM {name}) AS {name}" for name in ("runs", "calibrations", "problems")]
        sums = "(SELECT COALESCE(sum(n_{0}), 0)::BIGINT FROM run_totals) AS {0}"
        counts += [sums.format(name) for name in ("samples", "tokens")]
        totals = store.sql(f"SELECT {', '.join(counts)}").to_pylist()[0]
        runs = store.sql(
            """
            SELECT run_id, program, status, n_samples, n_tokens, rho, accuracy,
                CASE WHEN run_id IN (SELECT run_id FROM sealed_runs) THEN 'sealed' ELSE 'open' END AS life
            FROM run_view ORDER BY created_at, run_id
            """
        ).to_pylist()
        precision = store.precision
    sealed = sum(file.stat().st_size for folder in relations.complete_folders(path) for file in folder.iterdir())
    facts: dict[str, Any] = {"path": str(path), "revision": migrations.head(), "precision": precision}
    facts |= {"bytes": path.stat().st_size, "sealed_bytes": sealed}
    return facts | totals, runs
