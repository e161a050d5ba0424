"""Finished samples, as one looks at them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from rrti_sgl.db.layouts import token_tables
from rrti_sgl.programs.tables.sample_view import SampleView
from rrti_sgl.programs.tables.table import Table, plain_table
from rrti_sgl.records import ProblemRecord, RunRecord, SampleRecord, SampleTrace

if TYPE_CHECKING:
    from rrti_sgl.db.store import Store


@dataclass(frozen=True, repr=False, eq=False)
class Sample:
    """One solution with every token of it. A notebook draws it in colour, a terminal as text.

    Args:
        run: the run that it belongs to, as it is stored.
        problem: what was asked.
        trace: the solution and its tokens, as they are stored.

    Example:
        >>> sample = run.samples[0]
        >>> sample.text, sample.answer, sample.correct
        >>> sample.tokens.to_pandas()[["token_text", "source", "ce"]]
    """

    run: RunRecord
    problem: ProblemRecord
    trace: SampleTrace

    @property
    def record(self) -> SampleRecord:
        """Everything that is known of the sample as a whole."""
        return self.trace.sample

    @property
    def sample_id(self) -> str:
        """Its id, as `rrti show` takes it."""
        return self.record.sample_id

    @property
    def text(self) -> str:
        """The solution."""
        return self.record.text

    @property
    def answer(self) -> str | None:
        """What the grader found as its answer."""
        return self.record.answer

    @property
    def correct(self) -> bool | None:
        """Whether that is right; None where no gold answer is known."""
        return self.record.correct

    @property
    def tokens(self) -> Table:
        """One row a token, with the columns of the store's `tokens`; log-probabilities, divergences, entropies in nats."""
        [rows] = token_tables([self.trace], "exact").values()
        return plain_table("tokens", rows, f"Tokens of sample {self.sample_id}")

    def view(self, metric: str | None = None) -> SampleView:
        """The drawing, shaded by another metric; a notebook shows it, `rich.print` prints it.

        Raises:
            UsageError: there is no such metric.
        """
        return SampleView(self.run, self.problem, self.trace, metric)

    def __repr__(self) -> str:
        return repr(self.view())

    def _repr_html_(self) -> str:
        return self.view()._repr_html_()


class Samples(Sequence[Sample]):
    """The samples of a stored run: by number, first one of every problem, then a second of every problem; or by id.

    Each is read from the store when it is asked for.
    """

    def __init__(self, store: Store, run: RunRecord) -> None:
        self._store, self._run = store, run
        query = "SELECT sample_id FROM samples WHERE run_id = $run ORDER BY sample_index, problem_id"
        self._ids: list[str] = store.sql(query, {"run": run.run_id}).column(0).to_pylist()

    @overload
    def __getitem__(self, index: int | str) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | str | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[sample_id] for sample_id in self._ids[index]]
        return load_sample(self._store, index if isinstance(index, str) else self._ids[index])

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Sample]:
        return (self[sample_id] for sample_id in self._ids)

    def __repr__(self) -> str:
        return f"<{len(self)} samples of run {self._run.run_id}>"


def load_sample(store: Store, reference: str) -> Sample:
    """A stored sample by its id, or enough of its first digits.

    Raises:
        UsageError: there is none, or several.
    """
    trace = store.load_sample(reference)
    run = store.get_run(trace.sample.run_id)
    return Sample(run, store.get_problem(run.problem_set, trace.sample.problem_id), trace)
