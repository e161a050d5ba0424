"""`rrti score`: score existing texts or token ids with a pair, into the store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rrti_sgl.cli.pairing import (
    ApiKey,
    BaseModel,
    BaseUrl,
    ReasoningModel,
    ReasoningUrl,
    ServerFlags,
    TokenizerOption,
    open_pair,
)
from rrti_sgl.cli.problem_options import (
    BasePrompt,
    BaseTemplate,
    FewShot,
    GraderOption,
    ReasoningPrompt,
    ReasoningTemplate,
    SpecialTokensOption,
    Thinking,
    prompt_template,
)
from rrti_sgl.cli.run import InFlight, Metric, ScoreKindOption, TopK

_TEXTS = "Texts"


def score(
    context: typer.Context,
    source: Annotated[
        Path | None, typer.Option("--input", help="JSONL, Parquet, an lm-eval samples file or an inspect_ai log.")
    ] = None,
    format: Annotated[str, typer.Option(help="auto, jsonl, parquet, lm-eval or inspect.", rich_help_panel=_TEXTS)] = "auto",
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FIELD",
            help="Field that holds text, token_ids, question, problem_id, prompt, reasoning_prompt, answer or "
            "finish_reason, if not named so; dots lead inwards. Repeat.",
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
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Continue a run that ended early, options as then.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the run's summary as JSON.")] = False,
    base_url: BaseUrl = None,
    reasoning_url: ReasoningUrl = None,
    base: BaseModel = None,
    reasoning: ReasoningModel = None,
    server_flags: ServerFlags = "",
    tokenizer: TokenizerOption = None,
    api_key: ApiKey = None,
    grader: GraderOption = None,
    base_prompt: BasePrompt = None,
    base_template: BaseTemplate = None,
    few_shot: FewShot = None,
    reasoning_prompt: ReasoningPrompt = None,
    reasoning_template: ReasoningTemplate = None,
    thinking: Thinking = True,
    special_tokens: SpecialTokensOption = "mapped",
    k: TopK = 20,
    score_kind: ScoreKindOption = "topk",
    metric: Metric = "ce",
    tagger: Annotated[str | None, typer.Option(metavar="PKG.MODULE:CLASS", help="A planning tagger of your own.")] = None,
    in_flight: InFlight = 64,
) -> None:
    """Score texts that are there already, as `diagnose` scores rollouts of its own.

    Each model reads its prompt and the text once; nothing is generated. Without addresses, a pair is started for the
    duration: the bundled one, or --base and --reasoning.
    """
    from typing import cast

    from rrti_sgl.cli import execution, parse, summaries
    from rrti_sgl.cli.scoring import open_input, score_texts
    from rrti_sgl.decoding.engine import Concurrency
    from rrti_sgl.errors import UsageError
    from rrti_sgl.programs.program import GateOptions
    from rrti_sgl.programs.scoring.settings import ScoreSettings, TextInput
    from rrti_sgl.records import ScoreKind
    from rrti_sgl.tokens.special_tokens import SpecialTokens

    settings = None
    if resume is not None:
        execution.refuse_changes(parse.given(context) - {"source"})
    elif source is None:
        raise UsageError("There is nothing to score.", "Name a file: rrti score --input FILE")
    else:
        names = dict(parse.name_value("--field", text) for text in field or [])
        settings = ScoreSettings.of(
            TextInput(str(source), format, {name: str(value) for name, value in names.items()}, problems, end_token),
            k=k,
            score_kind=cast(ScoreKind, score_kind),
            gate=GateOptions(metric=metric),
            base_prompt=prompt_template("base", base_prompt, base_template),
            reasoning_prompt=prompt_template("reasoning", reasoning_prompt, reasoning_template),
            few_shot=few_shot,
            thinking=thinking,
            grader=grader,
            tagger=tagger,
            special_tokens=cast(SpecialTokens, special_tokens),
        )
    with open_input(db, settings, resume, source) as (store, settings, texts):
        with open_pair(base_url, reasoning_url, base, reasoning, server_flags) as pair:
            record = score_texts(
                store, pair, settings, texts, Concurrency(in_flight), resume, tokenizer=tokenizer, api_key=api_key
            )
        summaries.print_run_summary(store, record, as_json=json)
        if not json:
            typer.echo(f"\nStored in {db} as run {record.run_id}.")
