"""What commands that run something share: a store with settings, and work on a pair with lines of progress."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.progress import RunProgress
from rrti_sgl.cli.signals import run_async
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.gating import check_calibration
from rrti_sgl.programs.running.runner import Workers
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings

Result = TypeVar("Result")
Session = TypeVar("Session")


@contextlib.contextmanager
def open_store(
    path: Path,
    settings: RunSettings | None,
    resume: str | None,
    trust: Sequence[str] = (),
    *,
    load: bool = True,
    parts: Path | None = None,
) -> Iterator[tuple[Store, RunSettings, ProblemSet | None]]:
    """Read the problems and open the store for writing, in this order, before any server is started.

    Args:
        path: of the store.
        settings: of a new run; None: the resumed run's.
        resume: id of the run to continue.
        trust: classes that the resumed run names and that may be imported.
        load: whether the problems are needed.
        parts: see `Store.open`.

    Raises:
        UsageError: the problems, the run or its calibration are not there, or not as they have to be. Where it is the
            problems of a new run, no store is created.
    """
    problem_set = settings.load_problems() if load and settings is not None else None
    with Store.open(path, create=resume is None, parts=parts) as store:
        if resume is not None:
            run = store.get_run(resume)
            if run.kind == "counterfactual":
                raise UsageError(f"Run {resume} is a counterfactual.", f"Go on with: rrti counterfactual --resume {resume}")
            settings = RunSettings.from_dict(run.config, trust)
        if settings is None:
            raise UsageError("There is nothing to run.", "Name a program.")
        if load:
            check_calibration(store, settings)
            problem_set = problem_set or settings.load_problems()
        yield store, settings, problem_set


# What may be typed beside --resume: where things are, not what is run.
_WITH_RESUME = {"resume", "trust", "db", "json", *(each.name for each in (*fields(PairOptions), *fields(ClusterOptions)))}


def refuse_changes(given: Mapping[str, str]) -> None:
    """Refuse options that would change a resumed run.

    Args:
        given: names of what was typed -> how it is spelled (`rrti_sgl.cli.parse.given`).

    Raises:
        UsageError: names them.
    """
    if changes := sorted(flag for name, flag in given.items() if name not in _WITH_RESUME):
        named = ", ".join(changes)
        raise UsageError(f"A resumed run keeps its options; {named} cannot be given.", "Leave them out, or start a new run.")


def work_with(
    pair: PairOptions, settings: RunSettings, work: Callable[[PairSession, RunProgress], Awaitable[Result]]
) -> Result:
    """Do work on a pair of models, with lines of progress.

    Args:
        pair: found at its addresses, or started for as long as this lasts.
        settings: of the work; they say how special tokens are taken, and which gate a server has to know.
        work: is given the session, and what shows its progress.
    """
    with pair.open(_gates(settings)) as address:
        return run_async(_shown(pair.session(address, settings.special_tokens), work))


def share_out(
    pair: PairOptions,
    cluster: ClusterOptions,
    store: Path,
    settings: RunSettings,
    work: Callable[[PairSession | Workers, RunProgress], Awaitable[Result]],
) -> Result:
    """`work_with` on the pairs of a cluster where one is named, each found or started where Ray places it.

    Args:
        pair, settings, work: see `work_with`.
        cluster: where the pairs are; none is named: here.
        store: that the work writes to.
    """
    if cluster.ray is None:
        return work_with(pair, settings, work)
    opening = pair.opening(settings.special_tokens, _gates(settings))
    return run_async(_shown(cluster.open(opening, store), work))


async def _shown(
    opened: AbstractAsyncContextManager[Session], work: Callable[[Session, RunProgress], Awaitable[Result]]
) -> Result:
    async with opened as session:
        with RunProgress() as progress:
            return await work(session, progress)


def _gates(settings: RunSettings) -> list[str]:
    return [] if settings.gate.gate is None else [settings.gate.gate]
