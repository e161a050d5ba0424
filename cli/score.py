"""`rrti score`: score existing texts or token ids with a pair, into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from rrti_sgl.cli.clustering import ClusterOptions
from rrti_sgl.cli.options import RUN_OPTIONS, Trust, with_options
from rrti_sgl.cli.pairing import PairOptions
from rrti_sgl.cli.terminal import say

_TEXTS = "Texts"
# Nothing is generated: of the problems' options there is the grader, and of decoding and the gate what makes the scores.
_OPTIONS = [name for name, entry in RUN_OPTIONS.items() if entry.option.panel == "Prompts"]


@with_options([*_OPTIONS, "grader", "k", "top_k_mass", "score_kind", "metric", "tagger"])
def score(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Option("--input", help="JSONL, CSV, Parquet, or what lm-eval, inspect_ai or a trainer wrote."),
    ] = None,
    format: Annotated[
        str, typer.Option(help="auto, jsonl, csv, parquet, lm-eval, inspect, verl, trl or slime.", rich_help_panel=_TEXTS)
    ] = "auto",
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FIELD",
            help="Field that holds text, token_ids, question, problem_id, prompt, reasoning_prompt, conversation, answer "
            "or finish_reason, if not named so; dots lead inwards. Repeat.",
            rich_help_panel=_TEXTS,
        ),
    ] = None,
    problems: Annotated[
        str | None,
        typer.Option(help="Problem set that the texts answer: its gold answers, grader, prompts.", rich_help_panel=_TEXTS),
    ] = None,
    end_token: Annotated[
        bool, typer.Option("--end-token/--no-end-token", help="After texts that stopped.", rich_help_panel=_TEXTS)
    ] = True,
    thoughts: Annotated[
        bool, typer.Option("--thoughts", help="Put reasoning parts of a log back, as `<think>`.", rich_help_panel=_TEXTS)
    ] = False,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out what cannot be scored, and name it.", rich_help_panel=_TEXTS)
    ] = False,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Continue a run that ended early, options as then.")
    ] = None,
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
    from rrti_sgl.cli.scoring import open_input
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
