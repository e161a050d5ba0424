"""`rrti run PROGRAM`: run a program of the method over a problem set, into the store."""

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
    Split,
    Thinking,
    prompt_template,
)

_DECODING, _GATE, _COUNTERFACTUAL = "Decoding", "Gate", "Counterfactual"
TopK = Annotated[int, typer.Option("--k", help="Top logprobs kept of both models; 0: all.", rich_help_panel=_DECODING)]
Temperature = Annotated[float, typer.Option(help="0 is greedy.", rich_help_panel=_DECODING)]
TopP = Annotated[float, typer.Option(help="Nucleus of both models.", rich_help_panel=_DECODING)]
MaxNewTokens = Annotated[int | None, typer.Option(help="Most tokens of a solution.", rich_help_panel=_DECODING)]
Seed = Annotated[int, typer.Option(help="Of what is drawn on our side.", rich_help_panel=_DECODING)]
Decoding = Annotated[str, typer.Option(help="chunked, or lockstep (the reference).", rich_help_panel=_DECODING)]
ScoreKindOption = Annotated[
    str, typer.Option("--score-kind", help="topk, or plugin: exact numbers from the servers.", rich_help_panel=_DECODING)
]
DraftTokens = Annotated[int, typer.Option(help="Drafted tokens a round.", rich_help_panel=_DECODING)]
InFlight = Annotated[int, typer.Option(min=1, max=4096, help="Samples at once.", rich_help_panel=_DECODING)]
Metric = Annotated[str, typer.Option(help="Divergence the gate watches.", rich_help_panel=_GATE)]


def run(
    context: typer.Context,
    program: Annotated[
        str | None,
        typer.Argument(
            help="base, reasoning, diagnose, guided, entropy, random, early, oracle, relay or counterfactual.",
            show_default=False,
        ),
    ] = None,
    db: Annotated[Path, typer.Option(help="The trace store.")] = Path("traces.duckdb"),
    resume: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="Continue a run that ended early, options as then."),
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Do not continue a run of this command that ended early: start another.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the run's summary as JSON.")] = False,
    sample: Annotated[
        str | None, typer.Option(help="Stored sample to experiment on.", rich_help_panel=_COUNTERFACTUAL)
    ] = None,
    position: Annotated[
        list[int] | None,
        typer.Option(help="Token to deny or force; repeat. Default: changed takeovers.", rich_help_panel=_COUNTERFACTUAL),
    ] = None,
    continuations: Annotated[int | None, typer.Option(min=1, help="Of each arm.", rich_help_panel=_COUNTERFACTUAL)] = None,
    base_url: BaseUrl = None,
    reasoning_url: ReasoningUrl = None,
    base: BaseModel = None,
    reasoning: ReasoningModel = None,
    server_flags: ServerFlags = "",
    tokenizer: TokenizerOption = None,
    api_key: ApiKey = None,
    problems: Problems = "world:heldout",
    split: Split = "all",
    sample_problems: SampleProblems = None,
    problem_seed: ProblemSeed = 0,
    limit: Limit = None,
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
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = 0,
    decoding: Decoding = "chunked",
    draft_tokens: DraftTokens = 12,
    score_kind: ScoreKindOption = "topk",
    in_flight: InFlight = 64,
    metric: Metric = "ce",
    calibration: Annotated[
        str | None, typer.Option(help="Its id; the newest that fits by default.", rich_help_panel=_GATE)
    ] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Evaluate on problems of the calibration, too.", rich_help_panel=_GATE)
    ] = False,
    spike_ratio: Annotated[
        float | None, typer.Option(help="Take the calibration of this ratio.", rich_help_panel=_GATE)
    ] = None,
    tau: Annotated[float | None, typer.Option(help="Threshold, in place of a calibration's.", rich_help_panel=_GATE)] = None,
    use_lambda: Annotated[
        bool, typer.Option("--lambda/--no-lambda", help="Second condition on or off.", rich_help_panel=_GATE)
    ] = False,
    lambda_value: Annotated[
        float | None, typer.Option(help="Its factor, in place of a calibration's.", rich_help_panel=_GATE)
    ] = None,
    window: Annotated[int, typer.Option(help="Length of the local mean, tokens.", rich_help_panel=_GATE)] = 16,
    warmup: Annotated[
        str, typer.Option(help="Rule for position < window: tau, partial or never.", rich_help_panel=_GATE)
    ] = "tau",
    budget: Annotated[float, typer.Option(help="Share of positions, for random and early.", rich_help_panel=_GATE)] = 0.25,
    relay_tokens: Annotated[int, typer.Option(help="Tokens of a takeover, for relay.", rich_help_panel=_GATE)] = 4,
    mean_length: Annotated[
        float | None, typer.Option(help="Typical solution length, for early.", rich_help_panel=_GATE)
    ] = None,
    gate: Annotated[
        str | None, typer.Option(metavar="PKG.MODULE:CLASS", help="A gate of your own.", rich_help_panel=_GATE)
    ] = None,
    gate_param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Argument of your gate, JSON or text; repeat.", rich_help_panel=_GATE),
    ] = None,
    tagger: Annotated[
        str | None, typer.Option(metavar="PKG.MODULE:CLASS", help="A planning tagger of your own.", rich_help_panel=_GATE)
    ] = None,
) -> None:
    """Run a program over a problem set and store every token of it.

    Without addresses, a pair is started for the duration: the bundled one, or --base and --reasoning. A run that ended early
    is continued by the same command.
    """
    from datetime import UTC, datetime
    from typing import cast

    from rrti_sgl.cli import execution, parse, summaries
    from rrti_sgl.decoding.engine import Concurrency
    from rrti_sgl.decoding.engine import Decoding as DecodingName
    from rrti_sgl.errors import UsageError
    from rrti_sgl.problems import Part
    from rrti_sgl.programs.program import GateOptions
    from rrti_sgl.programs.running.settings import RunSettings
    from rrti_sgl.records import ScoreKind
    from rrti_sgl.science.threshold import Warmup
    from rrti_sgl.tokens.special_tokens import SpecialTokens

    if (program is None) == (resume is None):
        raise UsageError("Either a program or --resume is needed.", "For example: rrti run guided")
    if program == execution.COUNTERFACTUAL:
        from rrti_sgl.cli.counterfactual import run_and_print

        if sample is None:
            raise UsageError("counterfactual needs a stored sample.", "Name one: --sample ID (`rrti sql` lists them).")
        with open_pair(base_url, reasoning_url, base, reasoning, server_flags) as pair:
            chosen = temperature if "temperature" in parse.given(context) else None
            run_and_print(db, pair, sample, position, continuations, chosen, Concurrency(in_flight), as_json=json)
        return
    if resume is not None:
        execution.refuse_changes(parse.given(context))
    settings = None
    if program is not None:
        settings = RunSettings(
            program=program,
            problems=problems,
            limit=limit,
            samples=samples,
            k=k,
            temperature=temperature,
            top_p=top_p,
            max_new_tokens=max_new_tokens,
            seed=seed,
            decoding=cast(DecodingName, decoding),
            draft_tokens=draft_tokens,
            score_kind=cast(ScoreKind, score_kind),
            calibration_id=calibration,
            gate=GateOptions(
                metric=metric,
                tau=tau,
                spike_ratio=spike_ratio,
                use_lambda=use_lambda or lambda_value is not None,
                lambda_=lambda_value,
                window=window,
                warmup=cast(Warmup, warmup),
                budget=budget,
                relay_tokens=relay_tokens,
                mean_length=mean_length,
                gate=gate,
                gate_params=dict(parse.name_value("--gate-param", text) for text in gate_param or []),
            ),
            base_prompt=prompt_template("base", base_prompt, base_template),
            reasoning_prompt=prompt_template("reasoning", reasoning_prompt, reasoning_template),
            question_field=question_field,
            answer_field=answer_field,
            tagger=tagger,
            choices_field=choices_field,
            split=cast(Part, split),
            sample_problems=sample_problems,
            problem_seed=problem_seed,
            few_shot=few_shot,
            thinking=thinking,
            grader=grader,
            allow_overlap=allow_overlap,
            special_tokens=cast(SpecialTokens, special_tokens),
        )
    begun = datetime.now(UTC)
    with execution.open_store(db, settings, resume) as (store, settings):
        with open_pair(base_url, reasoning_url, base, reasoning, server_flags) as pair:
            record = execution.execute(
                store, pair, settings, Concurrency(in_flight), resume, tokenizer=tokenizer, api_key=api_key, anew=new
            )
        summaries.print_run_summary(store, record, as_json=json)
        if not json:
            which = "run" if record.created_at >= begun else "the continued run"
            typer.echo(f"\nStored in {db} as {which} {record.run_id}.")
