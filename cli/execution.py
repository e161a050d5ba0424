"""What `run`, `calibrate` and `demo` share: a store with settings, and one run with its progress line."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rrti_sgl.cli.progress import RunProgress
from rrti_sgl.cli.signals import run_async
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running.runner import run_program, run_seeds
from rrti_sgl.programs.running.session import Concurrency, PairSession, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import RunRecord
from rrti_sgl.serving.opening import PairAddress

Result = TypeVar("Result")
COUNTERFACTUAL = "counterfactual"


@contextlib.contextmanager
def open_store(
    path: Path, settings: RunSettings | None, resume: str | None, trust: Sequence[str] = ()
) -> Iterator[tuple[Store, RunSettings]]:
    """Open the store for writing before any server is started; on resuming, the settings are the stored run's."""
    with Store.open(path, create=resume is None) as store:
        if resume is not None:
            run = store.get_run(resume)
            if run.kind == "counterfactual":
                raise UsageError(f"Run {resume} is a counterfactual; it is not resumed.", "Run it again: it is short.")
            settings = RunSettings.from_dict(run.config, trust)
        if settings is None:
            raise UsageError("There is nothing to run.", "Name a program.")
        yield store, settings


# What may be typed beside --resume: where things are, not what is run.
_WITH_RESUME = {
    *("resume", "trust", "db", "json", "in_flight", "base_url", "reasoning_url", "base", "reasoning"),
    *("server_flags", "tokenizer", "api_key"),
}


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


def execute(
    store: Store,
    pair: PairAddress,
    settings: RunSettings,
    concurrency: Concurrency,
    resume: str | None = None,
    *,
    tokenizer: str | None = None,
    api_key: str | None = None,
    label: str | None = None,
    anew: bool = True,
) -> RunRecord:
    """Connect, run one program and show its progress; see `run_program`."""

    async def work(session: PairSession, progress: RunProgress) -> RunRecord:
        tracked = progress.track(label or settings.program)
        return await run_program(session, store, settings, resume=resume, anew=anew, on_progress=tracked)

    return _on_session(work, pair, settings, concurrency, tokenizer, api_key)


def execute_seeds(
    store: Store,
    pair: PairAddress,
    settings: RunSettings,
    concurrency: Concurrency,
    seeds: int,
    *,
    tokenizer: str | None = None,
    api_key: str | None = None,
    anew: bool = False,
) -> list[RunRecord]:
    """Connect, run one program with several seeds and show the progress; see `run_seeds`."""

    async def work(session: PairSession, progress: RunProgress) -> list[RunRecord]:
        track = lambda seeded: progress.track(f"{seeded.program}, seed {seeded.seed}")  # noqa: E731
        return await run_seeds(session, store, settings, seeds, anew=anew, track=track)

    return _on_session(work, pair, settings, concurrency, tokenizer, api_key)


def _on_session(
    work: Callable[[PairSession, RunProgress], Awaitable[Result]],
    pair: PairAddress,
    settings: RunSettings,
    concurrency: Concurrency,
    tokenizer: str | None,
    api_key: str | None,
) -> Result:
    async def go() -> Result:
        connecting = {"tokenizer": tokenizer, "api_key": api_key, "special_tokens": settings.special_tokens}
        async with open_session(pair.base_url, pair.reasoning_url, concurrency, **connecting) as session:
            with RunProgress() as progress:
                return await work(session, progress)

    return run_async(go())
