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
from rrti_sgl.cli.run import InFlight, Limit, MaxNewTokens, Metric, Problems, ScoreKindOption, Seed, Temperature, TopK


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
    limit: Limit = 200,
    k: TopK = 20,
    score_kind: ScoreKindOption = "topk",
    temperature: Temperature = 0.0,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = 0,
    in_flight: InFlight = 64,
    json: Annotated[bool, typer.Option("--json", help="Print a list of row objects.")] = False,
) -> None:
    """Score base rollouts on a small problem set (program `diagnose`), and take tau and lambda from them."""
    from typing import cast

    from rrti_sgl.cli import execution, summaries
    from rrti_sgl.decoding.engine import Concurrency
    from rrti_sgl.programs.calibrate import calibrate_on_run
    from rrti_sgl.programs.settings import RunSettings
    from rrti_sgl.records import ScoreKind

    settings = RunSettings(
        "diagnose",
        problems,
        limit,
        k=k,
        score_kind=cast(ScoreKind, score_kind),
        temperature=temperature,
        max_new_tokens=max_new_tokens,
        seed=seed,
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
