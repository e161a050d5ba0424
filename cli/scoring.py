"""What `rrti score` does between its options and its summary: the texts, the store, the run with its progress line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rrti_sgl.cli.progress import RunProgress
from rrti_sgl.cli.signals import run_async
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts import GivenText
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.scoring.score import run_score
from rrti_sgl.programs.scoring.settings import SCORE, ScoreSettings
from rrti_sgl.records import RunRecord
from rrti_sgl.serving.opening import PairAddress


@contextlib.contextmanager
def open_input(
    path: Path, settings: ScoreSettings | None, resume: str | None, moved_to: Path | None, trust: Sequence[str] = ()
) -> Iterator[tuple[Store, ScoreSettings, list[GivenText]]]:
    """Read the texts and open the store, in this order, before any server is started.

    Args:
        path: of the store.
        settings: of a new run; None: the resumed run's.
        resume: id of the run to continue.
        moved_to: where the file of a resumed run is now, if not where it was.
        trust: classes that the resumed run names and that may be imported.

    Raises:
        UsageError: something is wrong with the file, or the run is none of `rrti score`. A store is not created then.
    """
    texts = None if settings is None else settings.input.read()
    with Store.open(path, create=resume is None) as store:
        if settings is None:
            run = store.get_run(resume or "")
            if run.kind != "score":
                raise UsageError(f"Run {resume} is of program {run.program!r}.", f"Use: rrti run --resume {resume}")
            settings = ScoreSettings.from_dict(run.config, trust).relocated(moved_to)
        yield store, settings, settings.input.read() if texts is None else texts


def score_texts(
    store: Store,
    pair: PairAddress,
    settings: ScoreSettings,
    texts: Sequence[GivenText],
    concurrency: Concurrency,
    resume: str | None,
    *,
    tokenizer: str | None,
    api_key: str | None,
) -> RunRecord:
    """Connect, score and show the progress."""

    async def go() -> RunRecord:
        async with open_session(
            pair.base_url,
            pair.reasoning_url,
            concurrency,
            tokenizer=tokenizer,
            api_key=api_key,
            special_tokens=settings.run.special_tokens,
        ) as session:
            with RunProgress() as progress:
                return await run_score(
                    session,
                    store,
                    settings,
                    texts,
                    resume=resume,
                    on_progress=progress.track(SCORE),
                )

    return run_async(go())
