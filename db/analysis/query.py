"""What the declaration of a statistic holds.

A statistic NAME is `db/queries/NAME.sql` (its point estimates, for any number of runs) and a module `db/analysis/NAME.py`
with one `Query`::

    QUERY = Query(
        "sparsity",
        parameters={"metric": metric("ce"), "carried": shares(0.5, 0.8)},  # $metric and $carried of the SQL
        needs=("metric",),                                                 # checked for each run beforehand
        undefined={"value": "it sums to 0"},                               # NULL here is an error with this reason
        prepare=None,                                                      # what depends on the runs (see below)
        intervals=add_intervals,                                           # 95 % intervals (see below)
    )

The SQL gets the parameters that it names, and `$runs`: ids in the order in which they were named. Its header has the lines
`-- <question>?`, `-- Definitions: `, `-- Paper: ` and `-- Parameters: `. Other SQL of a statistic (counts by problem for the
bootstrap) lies in `db/queries/_NAME_<what>.sql`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from rrti_sgl.db.analysis.parameters import Parameter
from rrti_sgl.db.store import Store

QUERY_DIR = Path(__file__).resolve().parents[1] / "queries"
Row = Mapping[str, Any]
Values = Mapping[str, Any]
Prepare = Callable[[Store, Sequence[Row], Values], Values]
Compute = Callable[[Store, Values], tuple[pa.Table, dict[str, Any]]]
Intervals = Callable[[Store, pa.Table, Values], pa.Table]


@dataclass(frozen=True)
class Query:
    """A statistic.

    Attributes:
        name: of the statistic and of its file.
        parameters: by name; the SQL gets those that it mentions.
        needs: what every run must have (`rrti_sgl.db.analysis.needs`): token columns, "metric" for the metric asked for,
            "graded", "both" (right and wrong answers), "takeovers", "arms".
        undefined: columns that must not be NULL or NaN, with the reason why they can be.
        prepare: takes the store, a row of coverage for each run (`_coverage.sql`) and the checked values; returns the values
            with what depends on the runs filled in. Raises UsageError where the runs do not belong together.
        compute: finds the rows of the SQL without its window functions over all tokens (`token_values` says why): takes the
            store and the values, returns the table and the values with what `intervals` needs. None runs the SQL.
        intervals: takes the store, the table of point estimates and the values (also `resamples`, `seed`, `runs`); returns
            the table with `<column>_low` and `<column>_high` right after `<column>`
            (`rrti_sgl.db.analysis.intervals.insert_interval`). None where a statistic is a count and has none.
    """

    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    undefined: Mapping[str, str] = field(default_factory=dict)
    prepare: Prepare | None = None
    compute: Compute | None = None
    intervals: Intervals | None = None

    @property
    def sql(self) -> str:
        """The text of its file."""
        return sql_text(self.name)

    @property
    def question(self) -> str:
        """The first line of its header: the question it answers."""
        return self.sql.splitlines()[0].removeprefix("-- ")


def sql_text(name: str) -> str:
    """The text of `db/queries/<name>.sql`."""
    return (QUERY_DIR / f"{name}.sql").read_text(encoding="utf-8")


def run_sql(store: Store, name: str, values: Values) -> pa.Table:
    """The rows of `db/queries/<name>.sql`, given those of the values that it names as `$parameter`."""
    text = sql_text(name)
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return store.sql(text, {key: values[key] for key in set(re.findall(r"\$([a-z_]+)", code))})
