"""`rrti score`: score existing texts or token ids with a pair, into the store."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.options import RUN_OPTIONS, Resume, Trust, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.terminal import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rrti_sgl.db.store import Store
    from rrti_sgl.given_texts import GivenText
    from rrti_sgl.programs.scoring.settings import ScoreSettings

_in_texts = partial(typer.Option, rich_help_panel="Texts")
# Nothing is generated: of the problems' options there is the grader, and of decoding and the gate what makes the scores.
_OPTIONS = [name for name, entry in RUN_OPTIONS.items() if entry.option.panel == "Prompts"]


@with_options([*_OPTIONS, "grader", "k", "top_k_mass", "score_kind", "metric", "tagger"])
def score(
    context: typer.Context,
    source: Annotated[
        Path | None, typer.Option("--input", help="JSONL, CSV, Parquet, or what lm-eval, inspect_ai or a trainer wrote.")
    ] = None,
    format: Annotated[str, _in_texts(help="auto, jsonl, csv, parquet, lm-eval, inspect, verl, trl or slime.")] = "auto",
    field: Annotated[
        list[str] | None,
        _in_texts(
            metavar="NAME=FIELD",
            help="Field that holds text, token_ids, question, problem_id, prompt, reasoning_prompt, conversation, answer "
            "or finish_reason, if not named so; dots lead inwards. Repeat.",
        ),
    ] = None,
    problems: Annotated[
        str | None, _in_texts(help="Problem set that the texts answer: its gold answers, grader, prompts.")
    ] = None,
    end_token: Annotated[bool, _in_texts("--end-token/--no-end-token", help="After texts that stopped.")] = True,
    thoughts: Annotated[bool, _in_texts("--thoughts", help="Put reasoning parts of a log back, as `<think>`.")] = False,
    skip: Annotated[bool, _in_texts("--skip", help="Leave out what cannot be scored, and name it.")] = False,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    resume: Resume = None,
    trust: Trust = None,
    json: Annotated[bool, typer.Option("--json", help="Print the run's summary as JSON.")] = False,
    *,
    pair: PairOptions,
    cluster: ClusterOptions,
    options: dict[str, Any],
) -> None:
    """Score texts that are there already, as `diagnose` scores rollouts of its own.

    Each model reads its prompt and the text once; nothing is generated. Without addresses, a pair is started for the
    duration: the bundled one, or --base and --reasoning.
    """
    from rrti_sgl.cli import execution, parse, summaries
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.scoring.score import run_score
    from rrti_sgl.programs.scoring.settings import SCORE, ScoreSettings, TextInput
    from rrti_sgl.rows import is_file

    pair.check_servers("rrti score")
    settings = None
    if resume is not None:
        execution.refuse_changes({name: flag for name, flag in parse.given(context).items() if name != "source"})
    elif source is None:
        raise UsageError("There is nothing to score.", "Name a file: rrti score --input FILE")
    elif not is_file(source):
        raise UsageError(f"There is no file {source}.", "Give the path of a file: --input FILE")
    else:
        names = {name: str(value) for name, value in (parse.name_value("--field", text) for text in field or [])}
        settings = ScoreSettings.of(TextInput(str(source), format, names, problems, end_token, thoughts, skip), **options)
    with open_input(db, settings, resume, source, trust or (), cluster.folder(db)) as (store, settings, texts):
        record = execution.share_out(
            pair,
            cluster,
            db,
            settings.run,
            lambda session, progress: run_score(
                session, store, settings, texts, resume=resume, on_progress=progress.track(SCORE)
            ),
        )
        summaries.print_run_summary(store, record, as_json=json)
        if not json:
            say(f"\nStored in {db} as run {record.run_id}.")
            summaries.print_next(db, record)


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
    from rrti_sgl.db.store import Store
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.scoring.settings import ScoreSettings

    texts = None if settings is None else settings.input.read()
    with Store.open(path, create=resume is None, parts=parts) as store:
        if settings is None:
            run = store.get_run(resume or "")
            if run.kind != "score":
                raise UsageError(f"Run {resume} is of program {run.program!r}.", f"Use: rrti run --resume {resume}")
            settings = ScoreSettings.from_dict(run.config, trust).relocated(moved_to)
        yield store, settings, settings.input.read() if texts is None else texts
