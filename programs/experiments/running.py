"""Runs the grid of an experiment into one store. What the store has already is not run again; what ended early goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import Pair
from rrti_sgl.programs.experiments.checking import check_cells, told_with
from rrti_sgl.programs.experiments.grid import Cell, Grid
from rrti_sgl.programs.experiments.spec import REASONING
from rrti_sgl.programs.running.preparing import as_known, prepare
from rrti_sgl.programs.running.runner import Progress, Workers, execute_into
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.records import RunRecord


class Observer(Protocol):
    """Is told how the grid goes on."""

    def begin(self, cell: Cell) -> None:
        """A run begins, or goes on."""

    def progress(self, cell: Cell, progress: Progress) -> None:
        """A sample of it is finished."""

    def end(self, cell: Cell, run: RunRecord, *, stored: bool) -> None:
        """A run is finished; `stored`: it was already."""


@dataclass
class GridRuns:
    """The runs of an experiment so far.

    Args:
        calibrations: the diagnose run of each guest that has one.
        runs: id of the run of each cell, by (evaluation, label).
    """

    calibrations: dict[str, str] = field(default_factory=dict)
    runs: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """All run ids."""
        return [*self.calibrations.values(), *self.runs.values()]


@dataclass(frozen=True, slots=True)
class PairIdentity:
    """What tells the runs of one pair from those of another: model names as servers report them, and the vocabulary.

    One server for both models (`fused`) scores over the whole vocabulary, so that its runs and thresholds are others.
    """

    base_model: str
    reasoning_model: str
    tokenizer_hash: str
    vocab_size: int
    fused: bool = False

    @classmethod
    def of(cls, pair: Pair) -> PairIdentity:
        """Of a connected pair."""
        models = pair.base.info.model, pair.reasoning.info.model
        return cls(*models, pair.tokenizer_hash, pair.vocab_size, pair.fused)


@dataclass(frozen=True, slots=True)
class GridRunner:
    """Where and how the grid is run.

    Args:
        store: open for writing.
        observer: is told how it goes on.
        command: what continues the experiment, for the message of an error.
    """

    store: Store
    observer: Observer
    command: str

    async def run(self, session: PairSession | Workers, grid: Grid, runs: GridRuns, guest: str = REASONING) -> None:
        """Run the cells of one pair, the calibration first.

        Args:
            session: or many pairs elsewhere; of the base model and the guest.
            grid: the experiment's.
            runs: where the ids go.
            guest: run the cells with this model beside the base model.

        Raises:
            RRTIError: see `rrti_sgl.programs.running.runner.run_program`; what was finished is stored.
        """
        asked = grid.of_pair(guest)
        problem_sets = {cell.evaluation.name: cell.settings.load_problems() for cell in asked}
        check_cells(session.pair, asked, problem_sets, lambda cell, _: told_with(f"{cell.evaluation.name}: "))
        thresholds: dict[tuple[str, float], str] = {}
        for cell in asked:
            record = await self._run(session, decided(cell, thresholds, runs))
            thresholds |= self._noted(cell, record, grid, runs)

    def take_stored(self, identity: PairIdentity, grid: Grid, runs: GridRuns, guest: str = REASONING) -> bool:
        """Take all runs of one pair from the store, if all of them are finished: then no server is needed.

        Args:
            identity: of the pair as its servers would report it.
            grid, runs, guest: see `run`.

        Returns:
            Whether they were all there. If not, `runs` is as it was.
        """
        found = GridRuns()
        taken: list[tuple[Cell, RunRecord]] = []
        thresholds: dict[tuple[str, float], str] = {}
        for cell in grid.of_pair(guest):
            record = find_run(self.store, identity, decided(cell, thresholds, found))
            if record is None or record.status != "finished":
                return False
            taken.append((cell, record))
            thresholds |= self._noted(cell, record, grid, found)
        runs.calibrations |= found.calibrations
        runs.runs |= found.runs
        for cell, record in taken:
            self.observer.end(cell, record, stored=True)
        return True

    def _noted(self, cell: Cell, record: RunRecord, grid: Grid, runs: GridRuns) -> dict[tuple[str, float], str]:
        """Note a finished run; returns ids of the calibrations on it, by metric and spike ratio."""
        if cell is not grid.calibrations.get(cell.guest):
            runs.runs[cell.evaluation.name, cell.label] = record.run_id
            return {}
        runs.calibrations[cell.guest] = record.run_id
        return {
            (metric, ratio): calibration_of(self.store, record.run_id, metric, ratio)
            for metric, ratio in grid.thresholds(cell.guest)
        }

    async def _run(self, session: PairSession | Workers, cell: Cell) -> RunRecord:
        found = find_run(self.store, PairIdentity.of(session.pair), cell)
        if found is not None and found.status == "finished":
            self.observer.end(cell, found, stored=True)
            return found
        self.observer.begin(cell)
        prepared = prepare(session.pair, cell.settings, self.store, run_id=found.run_id if found else None)
        prepared = replace(prepared, continue_with=self.command)
        record = await execute_into(
            self.store,
            session,
            prepared,
            resume=found is not None,
            on_progress=lambda progress: self.observer.progress(cell, progress),
        )
        self.observer.end(cell, record, stored=False)
        return record


def decided(cell: Cell, thresholds: Mapping[tuple[str, float], str], runs: GridRuns) -> Cell:
    """The cell with the ids of the calibration that it takes its thresholds from, and of the run that it follows."""
    settings = cell.settings
    if cell.threshold is not None:
        settings = replace(settings, calibration_id=thresholds[cell.threshold])
    if cell.followed is not None:
        followed = runs.runs[cell.evaluation.name, cell.followed.label]
        settings = replace(settings, gate=replace(settings.gate, like=followed))
    return replace(cell, settings=settings)


def find_run(store: Store, identity: PairIdentity, cell: Cell) -> RunRecord | None:
    """The stored run of exactly these settings, problems and models: a finished one, or else the newest.

    No server need tell: the numbers of the gate follow from the settings, of which its calibration is one.
    """
    problem_set = as_known(cell.settings.load_problems(), cell.settings, identity.base_model)
    settings = cell.settings.resolved(problem_set, identity.vocab_size)
    models = (identity.base_model, identity.reasoning_model)[:: -1 if settings.exchanged else 1]
    like = {
        "program": settings.program,
        "config_hash": settings.digest(problem_set),
        "base_model": models[0],
        "reasoning_model": models[1],
        "tokenizer_hash": identity.tokenizer_hash,
        "score_kind": "full" if identity.fused or settings.k >= identity.vocab_size else settings.score_kind,
    }
    found = store.find_finished(like) or store.find_unfinished(like)
    return store.get_run(found) if found else None


def calibration_of(store: Store, run_id: str, metric: str, spike_ratio: float) -> str:
    """Id of the calibration of a diagnose run, made now where the store has none.

    Raises:
        UsageError: the run's scores do not allow that ratio.
    """
    rows = store.sql(
        """
        SELECT calibration_id FROM calibrations
        WHERE run_id = $run AND metric = $metric AND spike_ratio = $ratio ORDER BY created_at LIMIT 1
        """,
        {"run": run_id, "metric": metric, "ratio": spike_ratio},
    ).to_pylist()
    if rows:
        return str(rows[0]["calibration_id"])
    return calibrate_on_run(store, run_id, metric=metric, spike_ratio=spike_ratio).calibration_id
