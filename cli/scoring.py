"""The texts of `rrti score` and the store that they go to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts import GivenText
from rrti_sgl.programs.scoring.settings import ScoreSettings


@contextlib.contextmanager
def open_input(
    path: Path,
    settings: ScoreSettings | None,
    resume: str | None,
    moved_to: Path | None,
    trust: Sequence[str] = (),
    parts: Path | None = None,
) -> Iterator[tuple[Store, ScoreSettings, list[GivenText]]]:
    """Read the texts and open the store, in this order, before any server is started.

    Args:
        path: of the store.
        settings: of a new run; None: the resumed run's.
        resume: id of the run to continue.
        moved_to: where the file of a resumed run is now, if not where it was.
        trust: classes that the resumed run names and that may be imported.
        parts: see `Store.open`.

    Raises:
        UsageError: something is wrong with the file, or the run is none of `rrti score`. A store is not created then.
    """
    texts = None if settings is None else settings.input.read()
    with Store.open(path, create=resume is None, parts=parts) as store:
        if settings is None:
            run = store.get_run(resume or "")
            if run.kind != "score":
                raise UsageError(f"Run {resume} is of program {run.program!r}.", f"Use: rrti run --resume {resume}")
            settings = ScoreSettings.from_dict(run.config, trust).relocated(moved_to)
        yield store, settings, settings.input.read() if texts is None else texts
