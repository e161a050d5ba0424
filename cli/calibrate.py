"""`rrti calibrate`: thresholds for the gates, from base rollouts scored by both models."""

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
    AnswerField,
    BasePrompt,
    BaseTemplate,
    ChoicesField,
    FewShot,
    GraderOption,
    Limit,
    Problems,
    ProblemSeed,
    QuestionField,
    ReasoningPrompt,
    ReasoningTemplate,
    SampleProblems,
    Samples,
    SpecialTokensOption,
    Thinking,
    prompt_template,
)
from rrti_sgl.cli.run import InFlight, MaxNewTokens, Metric, ScoreKindOption, Seed, Temperature, TopK, TopP


def calibrate(
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    spike_ratio: Annotated[
        list[float] | None, typer.Option(help="Share of base tokens above tau; repeat for several. [default: 0.08]")
    ] = None,
    metric: Metric = "ce",
    from_run: Annotated[
        str | None, typer.Option(metavar="RUN", help="Calibrate on this stored diagnose run; no server is needed.")
    ] = None,
    base_url: BaseUrl = None,
    reasoning_url: ReasoningUrl = None,
    base: BaseModel = None,
    reasoning: ReasoningModel = None,
    server_flags: ServerFlags = "",
    tokenizer: TokenizerOption = None,
    api_key: ApiKey = None,
    problems: Problems = "world:calibration",
    split: Annotated[
        str | None,
        typer.Option(
            help="Part of the set: calibration, evaluation or all. [default: calibration of a benchmark, all of a file]",
            rich_help_panel="Problems",
        ),
    ] = None,
    sample_problems: SampleProblems = None,
    problem_seed: ProblemSeed = 0,
    limit: Limit = 200,
    samples: Samples = 1,
    question_field: QuestionField = "question",
    answer_field: AnswerField = "answer",
    choices_field: ChoicesField = None,
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
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = 0,
    in_flight: InFlight = 64,
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
) -> None:
    """Score base rollouts on a small problem set (program `diagnose`), and take tau and lambda from them."""
    from typing import cast

    from rrti_sgl.cli import execution, summaries
    from rrti_sgl.decoding.engine import Concurrency
    from rrti_sgl.problems import BENCHMARKS, Part
    from rrti_sgl.programs.running.settings import RunSettings
    from rrti_sgl.programs.stored.calibrate import calibrate_on_run
    from rrti_sgl.records import ScoreKind
    from rrti_sgl.tokens.special_tokens import SpecialTokens

    settings = RunSettings(
        "diagnose",
        problems,
        limit,
        samples,
        k=k,
        score_kind=cast(ScoreKind, score_kind),
        temperature=temperature,
        top_p=top_p,
        max_new_tokens=max_new_tokens,
        seed=seed,
        base_prompt=prompt_template("base", base_prompt, base_template),
        reasoning_prompt=prompt_template("reasoning", reasoning_prompt, reasoning_template),
        question_field=question_field,
        answer_field=answer_field,
        choices_field=choices_field,
        split=cast(Part, split or ("calibration" if problems in BENCHMARKS else "all")),
        sample_problems=sample_problems,
        problem_seed=problem_seed,
        few_shot=few_shot,
        thinking=thinking,
        grader=grader,
        special_tokens=cast(SpecialTokens, special_tokens),
    )
    with execution.open_store(db, settings, None) as (store, settings):
        if from_run is None:
            with open_pair(base_url, reasoning_url, base, reasoning, server_flags) as pair:
                record = execution.execute(
                    store, pair, settings, Concurrency(in_flight), tokenizer=tokenizer, api_key=api_key
                )
            from_run = record.run_id
        found = [calibrate_on_run(store, from_run, metric=metric, spike_ratio=ratio) for ratio in spike_ratio or [0.08]]
        summaries.print_calibrations(found, as_json=json)
