"""The tables of the trace store, column for column the records of `rrti_sgl.records`.

Every column carries a comment with its meaning and unit; `docs/schema.md` is generated from them. SQL reads `samples` and
`tokens`, views of `views.sql` over what lies here (`stored_samples`, `exact_tokens`, `compact_tokens`) and in the Parquet
files of sealed runs; their columns are those of `Sample` and `Token`.

Keys are on the small tables only: an index on `tokens` would cost most of the ingest speed, and DuckDB can alter
neither an indexed column nor a table that a foreign key refers to. Small vocabularies (`source`, `status`, ...) are
text, because a native ENUM outlives the table that uses it. Timestamps are UTC without a zone.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from duckdb_sqlalchemy.datatypes import USmallInteger, UTinyInteger
from sqlalchemy import ARRAY, JSON, REAL, BigInteger, Boolean, DateTime, Double, Integer, SmallInteger, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine


class Base(DeclarativeBase):
    """Declarative base; its metadata is what migrations are compared with."""

    type_annotation_map: ClassVar[dict[Any, TypeEngine[Any]]] = {
        str: String(),
        int: Integer(),
        float: Double(),
        bool: Boolean(),
        datetime: DateTime(),
        dict[str, Any]: JSON(),
        list[int]: ARRAY(Integer()),
        list[float]: ARRAY(REAL()),
    }


def _column(comment: str, *, key: bool = False, type_: TypeEngine[Any] | None = None) -> Mapped[Any]:
    """A documented column; its type follows from the annotation unless `type_` says otherwise."""
    return mapped_column(type_, primary_key=key, autoincrement=False, comment=comment)


class Run(Base):
    """One run of one program over one problem set."""

    __tablename__ = "runs"
    __table_args__ = ({"comment": "One run of one program over one problem set."},)

    run_id: Mapped[str] = _column("Identifier of the run.", key=True)
    program: Mapped[str] = _column("Program that ran: base, reasoning, diagnose, guided, random, early, ...")
    status: Mapped[str] = _column("running, finished, failed or interrupted.")
    created_at: Mapped[datetime] = _column("Start of the run (UTC).")
    config: Mapped[dict[str, Any]] = _column("Every option of the run, defaults included.")
    config_hash: Mapped[str] = _column("Hash of `config`: equal configurations have equal hashes.")
    base_model: Mapped[str | None] = _column("Model id of the base model.")
    reasoning_model: Mapped[str | None] = _column("Model id of the reasoning model.")
    tokenizer_hash: Mapped[str] = _column("Hash of the vocabulary that both models share.")
    vocab_size: Mapped[int] = _column("Size of that vocabulary, in tokens.")
    problem_set: Mapped[str] = _column("Problem set, with `problems.problem_id` the key of a problem.")
    n_problems: Mapped[int] = _column("Problems that the run was asked to work on.")
    samples_per_problem: Mapped[int] = _column("Samples drawn for each problem.")
    k: Mapped[int] = _column("Length of the top-k distributions that were asked for, in tokens.")
    score_kind: Mapped[str] = _column(
        "full: exact; topk: truncated at k, lower bounds; plugin: the same with exact numbers beside."
    )
    metric: Mapped[str | None] = _column("What `tokens.score` is: ce, kl, js, entropy_base, ...; NULL without a score.")
    gate: Mapped[str | None] = _column("Name of the gate that decides on takeovers (never: no takeover).")
    gate_params: Mapped[dict[str, Any]] = _column("All parameters of the gate.")
    tau: Mapped[float | None] = _column("Threshold of the score, in the unit of the metric (nats for ce and kl).")
    lambda_: Mapped[float | None] = _column("Factor over the local mean; NULL: that condition is off.")
    window: Mapped[int | None] = _column("Length of the local mean: scores of up to that many preceding tokens.")
    warmup: Mapped[str | None] = _column("Rule for positions before a full window.")
    calibration_id: Mapped[str | None] = _column("Calibration that tau and lambda_ come from.")
    tagger: Mapped[str] = _column("Name and version of the planning tagger.")
    grader: Mapped[str] = _column("Name and version of the grader.")
    temperature: Mapped[float] = _column("Sampling temperature; 0 is greedy. Scores are always at temperature 1.")
    top_p: Mapped[float] = _column("Nucleus of sampling, as a probability.")
    max_new_tokens: Mapped[int] = _column("Limit of a sample, in generated tokens.")
    seed: Mapped[int] = _column("Seed of all draws of the run.", type_=BigInteger())
    package_version: Mapped[str] = _column("Version of rrti-sgl that wrote the run.")
    base_server: Mapped[dict[str, Any]] = _column("What the base server said of itself: version, dtype, device and so on.")
    reasoning_server: Mapped[dict[str, Any]] = _column("What the reasoning server said of itself.")
    finished_at: Mapped[datetime | None] = _column("End of the run (UTC); NULL while it runs.")
    error: Mapped[str | None] = _column("Why a run failed.")


class Calibration(Base):
    """Thresholds taken from base rollouts."""

    __tablename__ = "calibrations"
    __table_args__ = ({"comment": "Thresholds taken from the scores of base rollouts."},)

    calibration_id: Mapped[str] = _column("Identifier of the calibration.", key=True)
    run_id: Mapped[str] = _column("Run whose scores it was taken from.")
    created_at: Mapped[datetime] = _column("When it was computed (UTC).")
    base_model: Mapped[str] = _column("Base model it is valid for.")
    reasoning_model: Mapped[str] = _column("Reasoning model it is valid for.")
    tokenizer_hash: Mapped[str] = _column("Vocabulary it is valid for.")
    metric: Mapped[str] = _column("Score it is valid for.")
    score_kind: Mapped[str] = _column("full, topk or plugin; scores of one kind are on another scale than another.")
    k: Mapped[int] = _column("Length of the top-k distributions it is valid for, in tokens.")
    spike_ratio: Mapped[float] = _column("Share r of tokens above tau.")
    tau: Mapped[float] = _column("(1 - r)-quantile of the scores, in the unit of the metric.")
    lambda_: Mapped[float] = _column("Mean of the scores above tau over the mean of all scores.")
    mean_score: Mapped[float] = _column("Mean of all scores, in the unit of the metric.")
    n_tokens: Mapped[int] = _column("Scores used.", type_=BigInteger())
    n_samples: Mapped[int] = _column("Samples used.")
    mean_length: Mapped[float] = _column("Mean length of those samples, in tokens.")


class Problem(Base):
    """One problem of a problem set."""

    __tablename__ = "problems"
    __table_args__ = ({"comment": "The problems that runs worked on, stored once."},)

    problem_set: Mapped[str] = _column("Name of the problem set.", key=True)
    problem_id: Mapped[str] = _column("Identifier within the problem set.", key=True)
    question: Mapped[str] = _column("Text of the problem.")
    answer: Mapped[str | None] = _column("Reference answer; NULL when there is none.")
    # `metadata` is taken on a declarative class, so the attribute has another name than the column.
    problem_metadata: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSON(), comment="What the problem set knows beyond question and answer."
    )


class Sample(Base):
    """One generated solution."""

    __tablename__ = "stored_samples"
    __table_args__ = ({"comment": "One generated solution, written whole with its tokens."},)

    run_id: Mapped[str] = _column("Run that it belongs to.", key=True)
    sample_id: Mapped[str] = _column("12 hex digits that follow from run, problem and index.", key=True)
    problem_id: Mapped[str] = _column("Problem it solves, in the run's problem set.")
    sample_index: Mapped[int] = _column("Which of the problem's samples it is, from 0.")
    base_prompt: Mapped[str | None] = _column("Prompt of the base model.")
    reasoning_prompt: Mapped[str | None] = _column("Prompt of the reasoning model.")
    text: Mapped[str] = _column("Generated text without the end token.")
    n_tokens: Mapped[int] = _column("Generated tokens, the end token included.")
    n_takeovers: Mapped[int] = _column("Tokens that the reasoning model took over.")
    n_changed: Mapped[int] = _column("Takeovers whose token differs from the one the base model drew there.")
    finish_reason: Mapped[str] = _column("stop (end token) or length (limit).")
    answer: Mapped[str | None] = _column("Answer read from the text; NULL when none was found.")
    correct: Mapped[bool | None] = _column("Whether the answer is right; NULL when the problem has no reference answer.")
    started_at: Mapped[datetime] = _column("Start of the sample (UTC).")
    wall_ms: Mapped[float] = _column("From start to end, waiting included, in milliseconds.")
    base_calls: Mapped[int] = _column("Requests to the base server.")
    reasoning_calls: Mapped[int] = _column("Requests to the reasoning server.")
    base_ms: Mapped[float] = _column("Time spent in requests to the base server, in milliseconds.")
    reasoning_ms: Mapped[float] = _column("Time spent in requests to the reasoning server, in milliseconds.")
    base_prompt_tokens: Mapped[int] = _column("Prompt tokens of all requests to the base server.", type_=BigInteger())
    base_cached_tokens: Mapped[int] = _column("Of those, served from its radix cache.", type_=BigInteger())
    reasoning_prompt_tokens: Mapped[int] = _column(
        "Prompt tokens of all requests to the reasoning server.", type_=BigInteger()
    )
    reasoning_cached_tokens: Mapped[int] = _column("Of those, served from its radix cache.", type_=BigInteger())
    tokens_drafted: Mapped[int] = _column("Tokens that the base model drafted.")
    tokens_discarded: Mapped[int] = _column("Drafted tokens that were thrown away.")
    tokens_scored: Mapped[int] = _column("Positions that the reasoning model scored.")
    parent_sample_id: Mapped[str | None] = _column("Sample whose beginning it continues (program counterfactual).")
    parent_position: Mapped[int | None] = _column("Position in that sample of the last given token.")
    arm: Mapped[str | None] = _column("taken: that token is the reasoning model's; denied: the base model's.")
    answer_method: Mapped[str | None] = _column("How the answer was found, such as boxed; NULL: unknown.")


class Token(Base):
    """One generated token with what both models said there, every number as it was computed: the exact layout."""

    __tablename__ = "exact_tokens"
    __table_args__ = (
        {"comment": "One row for each generated token. Distributions are at temperature 1; NULL means not computed."},
    )

    run_id: Mapped[str] = _column("Run that it belongs to.")
    sample_id: Mapped[str] = _column("Sample that it belongs to.")
    position: Mapped[int] = _column("Generated tokens before it: 0 for the first.")
    token_id: Mapped[int] = _column("The emitted token.")
    token_text: Mapped[str] = _column("Text of the emitted token.")
    source: Mapped[str] = _column("Model that the emitted token is from: base or reasoning.")
    base_token_id: Mapped[int | None] = _column("What the base model drew there; NULL: it was not asked.")
    base_token_text: Mapped[str | None] = _column("Text of that token on its own; NULL: it was not asked.")
    reasoning_token_id: Mapped[int | None] = _column("What the reasoning model drew there; NULL: it was not asked.")
    base_logprob: Mapped[float | None] = _column("Log-probability of the emitted token under the base model, in nats.")
    reasoning_logprob: Mapped[float | None] = _column(
        "Log-probability of the emitted token under the reasoning model, in nats."
    )
    score: Mapped[float | None] = _column("What the gate saw: the run's metric, in its unit.")
    local_mean: Mapped[float | None] = _column("Mean score of the window before the token, in the unit of the metric.")
    fired: Mapped[bool] = _column("Whether the gate asked for a takeover.")
    ce: Mapped[float | None] = _column("Cross-entropy of base against reasoning, -sum p_b log p_r, in nats.")
    kl: Mapped[float | None] = _column("Forward KL(p_r || p_b), in nats.")
    reverse_kl: Mapped[float | None] = _column("KL(p_b || p_r) = ce - entropy_base, in nats.")
    js: Mapped[float | None] = _column("Jensen-Shannon divergence, in nats (at most ln 2).")
    tv: Mapped[float | None] = _column("Total variation distance, from 0 to 1.")
    entropy_base: Mapped[float | None] = _column("Entropy of the base distribution, in nats.")
    entropy_reasoning: Mapped[float | None] = _column("Entropy of the reasoning distribution, in nats.")
    base_tail_mass: Mapped[float | None] = _column("Base probability outside its stored top k.")
    reasoning_tail_mass: Mapped[float | None] = _column("Reasoning probability outside its stored top k.")
    planning_tag: Mapped[str | None] = _column("Category of the planning word it belongs to; NULL: not a planning word.")
    planted: Mapped[int | None] = _column(
        "1 at planted decision points, 0 elsewhere; NULL where a world plants none.", type_=SmallInteger()
    )
    base_topk_ids: Mapped[list[int] | None] = _column("Base model's k most probable tokens, most probable first.")
    base_topk_logprobs: Mapped[list[float] | None] = _column("Their log-probabilities, in nats.")
    reasoning_topk_ids: Mapped[list[int] | None] = _column("Reasoning model's k most probable tokens, most probable first.")
    reasoning_topk_logprobs: Mapped[list[float] | None] = _column("Their log-probabilities, in nats.")

    # The mapper needs an identity; the table has no key, for the speed of ingest.
    __mapper_args__ = {  # noqa: RUF012 - SQLAlchemy declares it as an instance attribute
        "primary_key": [run_id, sample_id, position],
    }


def _single(comment: str) -> Mapped[float | None]:
    return _column(f"{comment} Single precision; NULL too where `score` is its copy.", type_=REAL())


class CompactToken(Base):
    """One generated token in the compact layout, which the view `tokens` reads back."""

    __tablename__ = "compact_tokens"
    __table_args__ = ({"comment": "Tokens in the compact layout; read them through `tokens`."},)

    run_id: Mapped[str] = _column("Run that it belongs to.")
    sample_id: Mapped[str] = _column("Sample that it belongs to.")
    position: Mapped[int] = _column("Generated tokens before it: 0 for the first.")
    token_id: Mapped[int] = _column("The emitted token.")
    token_text: Mapped[str] = _column("Text of the emitted token.")
    source: Mapped[str] = _column("Model that the emitted token is from: base or reasoning.")
    base_token_id: Mapped[int | None] = _column("What the base model drew there; NULL: it was not asked.")
    base_token_text: Mapped[str | None] = _column("Text of that token on its own, where it differs from `token_text`.")
    reasoning_token_id: Mapped[int | None] = _column(
        "What the reasoning model drew there, where it is not the emitted token; NULL else."
    )
    base_logprob: Mapped[float | None] = _column("As in `tokens`, in single precision.", type_=REAL())
    reasoning_logprob: Mapped[float | None] = _column("As in `tokens`, in single precision.", type_=REAL())
    score: Mapped[float | None] = _column("What the gate saw, exactly.")
    score_is: Mapped[str | None] = _column("Metric that the scores of the sample equal bit for bit; its column is NULL.")
    local_mean: Mapped[float | None] = _column("Mean score of the window before the token, exactly.")
    fired: Mapped[bool] = _column("Whether the gate asked for a takeover.")
    ce: Mapped[float | None] = _single("Cross-entropy.")
    kl: Mapped[float | None] = _single("Forward KL.")
    reverse_kl: Mapped[float | None] = _single("Reverse KL.")
    js: Mapped[float | None] = _single("Jensen-Shannon divergence.")
    tv: Mapped[float | None] = _single("Total variation distance.")
    entropy_base: Mapped[float | None] = _single("Entropy of the base distribution.")
    entropy_reasoning: Mapped[float | None] = _single("Entropy of the reasoning distribution.")
    base_tail_mass: Mapped[float | None] = _column("As in `tokens`, in single precision.", type_=REAL())
    reasoning_tail_mass: Mapped[float | None] = _column("As in `tokens`, in single precision.", type_=REAL())
    planning_tag: Mapped[str | None] = _column("Category of the planning word it belongs to.")
    planted: Mapped[int | None] = _column("1 at planted decision points, 0 elsewhere.", type_=SmallInteger())
    base_topk_ids: Mapped[list[int] | None] = _column("Base model's k most probable tokens, most probable first.")
    base_topk_codes: Mapped[list[int] | None] = _column(
        "Their log-probabilities: code c for -(exp(c / 27) - 1) / 4 nats, 255 for log 0.", type_=ARRAY(UTinyInteger())
    )
    reasoning_topk_ranks: Mapped[list[int] | None] = _column(
        "Reasoning model's list as places, from 1, in `base_topk_ids` followed by `reasoning_other_ids`.",
        type_=ARRAY(USmallInteger()),
    )
    reasoning_other_ids: Mapped[list[int] | None] = _column("Ids of that list that `base_topk_ids` does not hold.")
    reasoning_topk_codes: Mapped[list[int] | None] = _column(
        "Log-probabilities of that list: code c for -(exp(c / 27) - 1) / 4 nats, 255 for log 0.",
        type_=ARRAY(UTinyInteger()),
    )

    __mapper_args__ = {  # noqa: RUF012 - SQLAlchemy declares it as an instance attribute
        "primary_key": [run_id, sample_id, position],
    }


class SealedRun(Base):
    """One run whose samples and tokens are in Parquet files."""

    __tablename__ = "sealed_runs"
    __table_args__ = ({"comment": "Runs whose samples and tokens are in Parquet files, one folder each."},)

    run_id: Mapped[str] = _column("Run that was sealed; its folder beside the store has its name.", key=True)
    sealed_at: Mapped[datetime] = _column("When it was sealed or attached (UTC).")
    n_samples: Mapped[int] = _column("Samples in the folder.")
    n_tokens: Mapped[int] = _column("Tokens in the folder.", type_=BigInteger())


class Setting(Base):
    """One setting that the file carries."""

    __tablename__ = "store_settings"
    __table_args__ = (
        {"comment": "Settings of the file: `precision` of new tokens, `location` that the views were made for."},
    )

    name: Mapped[str] = _column("Name of the setting.", key=True)
    value: Mapped[str] = _column("Its value.")
