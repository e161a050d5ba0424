"""What the declaration of a statistic holds.

A statistic NAME is a module `db/analysis/NAME.py` with one `Query`::

    QUERY = Query(
        "flips",
        parameters={"base": one_run()},                                    # $base of the SQL
        needs=("graded",),                                                 # checked for each run beforehand
        undefined={"difference": "it shares no sample index"},             # NULL here is an error with this reason
        prepare=None,                                                      # what depends on the runs (see below)
        intervals=add_intervals,                                           # 95 % intervals (see below)
    )

Its estimates are those of `db/queries/NAME.sql`, which gets the parameters that it names and `$runs`, ids in the order in
which they were named; or, where all tokens have to be sorted or a top set found again in every resample, those of `compute`.
What it is stands in `about`, or in the header of the SQL: a question, then `Definitions: `, `Paper: ` and `Parameters: `.
Other SQL of a statistic lies in `db/queries/_NAME_<what>.sql`.
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
Compute = Callable[[Store, Values], pa.Table]
Intervals = Callable[[Store, pa.Table, Values], pa.Table]


@dataclass(frozen=True)
class Query:
    """A statistic.

    Attributes:
        name: of the statistic.
        parameters: by name; the SQL gets those that it mentions.
        needs: what every run must have (`rrti_sgl.db.analysis.needs`): token columns, "metric" for the metric asked for,
            "graded", "both" (right and wrong answers), "takeovers", "arms".
        undefined: columns that must not be NULL or NaN, with the reason why they can be.
        about: the question that it answers, its definitions and parameters; empty where SQL has them in its header.
        prepare: takes the store, a row of coverage for each run (`_coverage.sql`) and the checked values; returns the values
            with what depends on the runs filled in. Raises UsageError where the runs do not belong together.
        compute: takes the store and the values (also `resamples`, `seed`, `runs`); returns the table, with intervals where
            resamples are asked for. None runs the SQL, then `intervals`.
        intervals: takes the store, the table of point estimates and the values; returns the table with `<column>_low` and
            `<column>_high` right after `<column>` (`rrti_sgl.db.analysis.intervals.insert_interval`).
    """

    name: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    undefined: Mapping[str, str] = field(default_factory=dict)
    about: str = ""
    prepare: Prepare | None = None
    compute: Compute | None = None
    intervals: Intervals | None = None

    @property
    def header(self) -> str:
        """What it is: `about`, or the header of its SQL."""
        if self.about:
            return self.about
        lines = re.match(r"(--.*\n)+", sql_text(self.name))
        return re.sub(r"(?m)^-- ?", "", lines.group()) if lines else ""

    @property
    def question(self) -> str:
        """The question it answers, the first line of its header."""
        return self.header.partition("\n")[0]

    def table(self, store: Store, values: Values) -> pa.Table:
        """Its rows, with intervals where resamples are asked for."""
        if self.compute is not None:
            return self.compute(store, values)
        table = run_sql(store, self.name, values)
        return table if self.intervals is None or not values["resamples"] else self.intervals(store, table, values)


def sql_text(name: str) -> str:
    """The text of `db/queries/<name>.sql`."""
    return (QUERY_DIR / f"{name}.sql").read_text(encoding="utf-8")


def run_sql(store: Store, name: str, values: Values) -> pa.Table:
    """The rows of `db/queries/<name>.sql`, given those of the values that it names as `$parameter`."""
    return run_text(store, sql_text(name), values)


def run_text(store: Store, text: str, values: Values) -> pa.Table:
    """The rows of a statement, given those of the values that it names as `$parameter`.

    It finds sealed samples and tokens of the runs `within` alone; without that value of the `runs`, or of the one `run`.
    """
    within = values["within"] if "within" in values else values["runs"] if "runs" in values else [values["run"]]
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return store.sql(text, {key: values[key] for key in set(re.findall(r"\$([a-z_]+)", code))}, runs=within)
