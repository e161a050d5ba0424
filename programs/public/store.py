"""A trace store and its runs: what can be asked of them without a model."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rrti_sgl.db.queries import Runs, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.programs.public.samples import Sample, Samples, load_sample
from rrti_sgl.programs.public.twins import in_thread
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.programs.tables.table import Table, plain_table, stored_table
from rrti_sgl.programs.values import given_path
from rrti_sgl.records import CalibrationRecord, RunRecord

if TYPE_CHECKING:
    from rrti_sgl.programs.reporting.context import Report
    from rrti_sgl.programs.stored.whatif import WhatIf


class TraceStore:
    """An open trace store; a context manager that closes it. `rrti_sgl.open` gives one.

    Example:
        >>> with rr.open("traces.duckdb", read_only=True) as store:
        ...     store.runs
        ...     store.sql("SELECT program, rho, accuracy FROM run_view").to_pandas()
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    def temporary(cls) -> Self:
        """A store that is deleted when nothing refers to it any more, neither a pair nor a run."""
        folder = tempfile.mkdtemp(prefix="rrti-store-")
        store = Store.open(Path(folder) / "traces.duckdb")
        weakref.finalize(store, shutil.rmtree, folder, ignore_errors=True)
        return cls(store)

    @property
    def path(self) -> Path:
        """The file."""
        return self.store.path

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    @property
    def runs(self) -> Table:
        """One row a run, oldest first."""
        return stored_runs(self.store)

    def run(self, reference: str) -> Run:
        """A stored run: by its id, by a prefix of it, or by a program's name, the newest of these.

        Raises:
            UsageError: there is none.
        """
        return Run(self, self.store.find_runs(reference)[-1])

    def sample(self, reference: str) -> Sample:
        """A stored sample by its id, or enough of its first digits.

        Raises:
            UsageError: there is none, or several.
        """
        return load_sample(self.store, reference)

    def sql(self, query: str, params: Mapping[str, Any] | None = None, *, timeout_s: float | None = None) -> Table:
        """The rows of one SELECT, which can neither write nor reach anything else.

        Args:
            query: one statement; `docs/schema.md` lists tables and views.
            params: values of `$name` in it.
            timeout_s: stop after so many seconds.

        Raises:
            StoreError: the statement does more than read, is wrong, or takes too long.

        Example:
            >>> store.sql("SELECT * FROM run_view WHERE program = $program", {"program": "guided"}).to_pandas()
        """
        return stored_table(self.store.sql(query, params, timeout_s=timeout_s))

    def statistic(self, name: str, *, run: Runs = None, **params: Any) -> Table:
        """A statistic of runs, with its intervals.

        Args:
            name: one of `docs/statistics.md`.
            run: run ids, prefixes of them or programs; None takes every run that has what the statistic needs.
            **params: in place of the statistic's defaults.

        Raises:
            UsageError: an unknown name, parameter, value or run, or a run without what the statistic needs.

        Example:
            >>> store.statistic("sparsity", run="diagnose", metric="ce").to_pandas()
        """
        return plain_table(name, run_query(self.store, name, run=run, **params))

    def calibrate(self, run: str, *, metric: str = "ce", spike_ratio: float = 0.08) -> CalibrationRecord:
        """Take tau and lambda from a stored `diagnose` run, and store them.

        Args:
            run: its id.
            metric: the score to calibrate; "entropy_base" for the entropy gate.
            spike_ratio: share of base tokens that are to lie above tau.

        Raises:
            UsageError: no such run, or scores that do not allow it.
        """
        return calibrate_on_run(self.store, run, metric=metric, spike_ratio=spike_ratio)

    def whatif(self, run: str | None = None, **gates: Any) -> WhatIf:
        """What other gates would do on a stored run; no model is asked.

        Args:
            run: id, prefix of one or program; None: the newest `diagnose` run.
            **gates: `tau=`, `spike_ratios=`, `budgets=`, `calibration_id=` or `stored=True`, and the other fields of
                `WhatIfOptions`; none sweeps spike ratios.

        Returns:
            The gates that were tried; `.table` has one row each.

        Raises:
            UsageError: an unknown option, no such run, or one whose tokens do not tell.

        Example:
            >>> store.whatif("diagnose", budgets=[0.02, 0.05]).table
        """
        from rrti_sgl.programs.stored.whatif import WhatIfOptions, what_if

        return what_if(self.store, run, WhatIfOptions.of(gates))

    def report(self, out: str | Path | None = None, runs: Sequence[str] = ()) -> Report:
        """Every statistic of the paper as tables and figures.

        Args:
            out: folder to write it to, as pages, tables and figures; None writes nothing.
            runs: ids, prefixes of them or programs; none takes every run.

        Raises:
            UsageError: no such run, or the folder cannot be written.

        Example:
            >>> store.report("report")
        """
        from rrti_sgl.programs.reporting.report import make_report, write_report

        folder = None if out is None else given_path("out", out)
        report = make_report(self.store, runs)
        if folder is not None:
            write_report(report, folder)
        return report

    def export(self, source: str, out: str | Path, *, format: str | None = None, run: Runs = None, **params: Any) -> Path:
        """Write the rows of a statistic, of a table or view, or of one SELECT to a file, whole or not at all.

        Args:
            source: the name of a statistic or of a table or view, or SQL.
            out: the file.
            format: csv, json, parquet, arrow, latex, markdown, tsv or html; None goes by the file's ending.
            run: of a statistic: its runs.
            **params: of a statistic: its parameters.

        Raises:
            UsageError: an unknown name or format, or a file that cannot be written.
            StoreError: the SQL does more than read, or is wrong.

        Example:
            >>> store.export("accuracy", "accuracy.tex")
        """
        from rrti_sgl.programs.reporting.exporting import table_of
        from rrti_sgl.programs.reporting.writing import write_atomically
        from rrti_sgl.programs.tables.formats import find_format, format_of

        path = given_path("out", out)
        chosen = find_format(format) if format is not None else format_of(path)
        write_atomically(path, chosen.encode(table_of(self.store, source, run=run, **params)))
        return path

    asql = in_thread(sql)
    astatistic = in_thread(statistic)
    acalibrate = in_thread(calibrate)
    awhatif = in_thread(whatif)
    areport = in_thread(report)
    aexport = in_thread(export)

    def __repr__(self) -> str:
        return f"<trace store {self.path}>"

    def _repr_html_(self) -> str:
        return self.runs._repr_html_()


class Run:
    """A stored run with its samples and statistics.

    Example:
        >>> run = pair.run("guided", problems="world:heldout", limit=10, tau=0.5)
        >>> run.samples[0]
        >>> run.statistic("accuracy").to_pandas()
    """

    def __init__(self, store: TraceStore, record: RunRecord) -> None:
        self.store, self.record = store, record

    @property
    def run_id(self) -> str:
        """Its id."""
        return self.record.run_id

    @cached_property
    def samples(self) -> Samples:
        """Its finished samples, as far as there are any when this is first asked."""
        return Samples(self.store.store, self.record)

    @property
    def summary(self) -> Table:
        """One row: what was run, how many takeovers, how many right."""
        return stored_runs(self.store.store, self.run_id)

    def statistic(self, name: str, **params: Any) -> Table:
        """A statistic of this run; see `TraceStore.statistic`."""
        return self.store.statistic(name, run=self.run_id, **params)

    def calibrate(self, *, metric: str = "ce", spike_ratio: float = 0.08) -> CalibrationRecord:
        """Thresholds from this `diagnose` run; see `TraceStore.calibrate`."""
        return self.store.calibrate(self.run_id, metric=metric, spike_ratio=spike_ratio)

    def whatif(self, **gates: Any) -> WhatIf:
        """What other gates would do on this run; see `TraceStore.whatif`."""
        return self.store.whatif(self.run_id, **gates)

    def report(self, out: str | Path | None = None) -> Report:
        """Every statistic of the paper on this run; see `TraceStore.report`."""
        return self.store.report(out, [self.run_id])

    astatistic = in_thread(statistic)
    acalibrate = in_thread(calibrate)
    awhatif = in_thread(whatif)
    areport = in_thread(report)

    def __repr__(self) -> str:
        return repr(self.summary)

    def _repr_html_(self) -> str:
        return self.summary._repr_html_()


def stored_runs(store: Store, run_id: str | None = None) -> Table:
    """One row a run, oldest first, or that of one run."""
    rows = store.sql(
        """
        SELECT run_id, program, status, problem_set, n_samples, n_tokens, tau, rho, accuracy FROM run_view
        WHERE $run IS NULL OR run_id = $run ORDER BY created_at, run_id
        """,
        {"run": run_id},
    )
    return plain_table("runs", rows, "Runs" if run_id is None else f"Run {run_id}")
