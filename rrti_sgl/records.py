"""The stored records: one frozen dataclass for each table of the trace store.

A record is what the decoding side hands over and the store keeps. Each field says beside its type what it means as a column
(`rrti_sgl.columns`): the tables follow from that (`rrti_sgl.db.tables`), and `rrti_sgl.db.record_rows` is the one place that
turns records into rows. `SampleTrace` holds a whole sample: its row of `samples` and its tokens as columns, because a sample
is written in one transaction or not at all.

Units: log-probabilities, divergences and entropies in nats at temperature 1; lengths in tokens; times in milliseconds.
`None` (NULL) means "not computed", never zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.columns import Column
from rrti_sgl.errors import StoreError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]

Source = Literal["base", "reasoning"]
ScoreKind = Literal["full", "topk", "plugin"]
FinishReason = Literal["stop", "length", "unknown"]  # unknown: a given text that does not say
RunStatus = Literal["running", "finished", "failed", "interrupted"]
RunKind = Literal["run", "score", "frontend", "counterfactual", "api"]
Json = Any


def sample_key(run_id: str, problem_id: str, sample_index: int) -> str:
    """The id of a sample: 12 hex digits that depend on nothing but its place in the run, so that retries never double."""
    return hashlib.sha256(f"{run_id}\n{problem_id}\n{sample_index}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """One problem. `metadata` holds what the problem set knows beyond question and answer (JSON)."""

    problem_id: Annotated[str, Column("Identifier within the problem set.", key=True)]
    problem_set: Annotated[str, Column("Name of the problem set.", key=True)]
    question: Annotated[str, Column("Text of the problem.")]
    answer: Annotated[str | None, Column("Reference answer; NULL when there is none.")]
    metadata: Annotated[Mapping[str, Json], Column("What the problem set knows beyond question and answer.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """Thresholds taken from base rollouts, with everything they are valid for.

    `tau` is the (1 - spike_ratio)-quantile of the scores and `lambda_` is E[s | s > tau] / E[s] (paper, section
    "Intervention"). `k` and `score_kind` belong to it: scores truncated at another k are on another scale.
    """

    calibration_id: Annotated[str, Column("Identifier of the calibration.", key=True)]
    run_id: Annotated[str, Column("Run whose scores it was taken from.")]
    created_at: Annotated[datetime, Column("When it was computed (UTC).")]
    base_model: Annotated[str, Column("Base model it is valid for.")]
    reasoning_model: Annotated[str, Column("Reasoning model it is valid for.")]
    tokenizer_hash: Annotated[str, Column("Vocabulary it is valid for.")]
    metric: Annotated[str, Column("Score it is valid for.")]
    score_kind: Annotated[ScoreKind, Column("full, topk or plugin; scores of one kind are on another scale than another.")]
    k: Annotated[int, Column("Length of the top-k distributions it is valid for, in tokens.")]
    spike_ratio: Annotated[float, Column("Share r of tokens above tau.")]
    tau: Annotated[float, Column("(1 - r)-quantile of the scores, in the unit of the metric.")]
    lambda_: Annotated[float, Column("Mean of the scores above tau over the mean of all scores.")]
    mean_score: Annotated[float, Column("Mean of all scores, in the unit of the metric.")]
    n_tokens: Annotated[int, Column("Scores used.", "wide")]
    n_samples: Annotated[int, Column("Samples used.")]
    mean_length: Annotated[float, Column("Mean length of those samples, in tokens.")]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of one program over one problem set.

    The gate is in `gate` and `gate_params` (JSON), and, where it is a threshold rule, in `tau`, `lambda_` (None = the
    lambda condition is off), `window` and `warmup`, so that SQL can replay it on the tokens:
    `fired = score > tau AND (lambda_ IS NULL OR <warm-up rule while position < window> OR score > lambda_ * local_mean)`;
    with `rolling` in `gate_params` the mean of so many scores, of `score` and `local_mean`, stands for the score.

    `config` says under "kind" what made the run, and so what else is in it: "run" and "counterfactual" have the settings of
    a program, "score" those of given texts, "frontend" the options of a backend, "api" the settings of requests to an
    endpoint. The kind is no part of `config_hash`.
    """

    run_id: Annotated[str, Column("Identifier of the run.", key=True)]
    program: Annotated[str, Column("Program that ran: base, reasoning, diagnose, guided, random, early, ...")]
    status: Annotated[RunStatus, Column("running, finished, failed or interrupted.")]
    created_at: Annotated[datetime, Column("Start of the run (UTC).")]
    config: Annotated[
        Mapping[str, Json],
        Column("Every option of the run, defaults included, and its kind: run, score, frontend, counterfactual, api."),
    ]
    config_hash: Annotated[str, Column("Hash of `config`: equal configurations have equal hashes.")]
    base_model: Annotated[str | None, Column("Model id of the base model; in exchanged roles of the model that writes.")]
    reasoning_model: Annotated[str | None, Column("Model id of the reasoning model; in exchanged roles of the guest.")]
    tokenizer_hash: Annotated[str, Column("Hash of the vocabulary that both models share.")]
    vocab_size: Annotated[int, Column("Size of that vocabulary, in tokens.")]
    problem_set: Annotated[str, Column("Problem set, with `problems.problem_id` the key of a problem.")]
    n_problems: Annotated[int, Column("Problems that the run was asked to work on.")]
    samples_per_problem: Annotated[int, Column("Samples drawn for each problem.")]
    k: Annotated[int, Column("Length of the top-k distributions that were asked for, in tokens.")]
    score_kind: Annotated[
        ScoreKind, Column("full: exact; topk: truncated at k, lower bounds; plugin: the same with exact numbers beside.")
    ]
    metric: Annotated[str | None, Column("What `tokens.score` is: ce, kl, js, entropy_base, ...; NULL without a score.")]
    gate: Annotated[str | None, Column("Name of the gate that decides on takeovers (never: no takeover).")]
    gate_params: Annotated[Mapping[str, Json], Column("All parameters of the gate.")]
    tau: Annotated[float | None, Column("Threshold of the score, in the unit of the metric (nats for ce and kl).")]
    lambda_: Annotated[float | None, Column("Factor over the local mean; NULL: that condition is off.")]
    window: Annotated[
        int | None, Column("Length of the local mean: so many preceding scores; with `rolling` one fewer than it.")
    ]
    warmup: Annotated[str | None, Column("Rule for positions before a full window.")]
    calibration_id: Annotated[str | None, Column("Calibration that tau and lambda_ come from.")]
    tagger: Annotated[str, Column("Name and version of the planning tagger.")]
    grader: Annotated[str, Column("Name and version of the grader.")]
    temperature: Annotated[float, Column("Sampling temperature; 0 is greedy. Scores are always at temperature 1.")]
    top_p: Annotated[float, Column("Nucleus of sampling, as a probability.")]
    max_new_tokens: Annotated[int, Column("Limit of a sample, in generated tokens.")]
    seed: Annotated[int, Column("Seed of all draws of the run.", "wide")]
    package_version: Annotated[str, Column("Version of rrti-sgl that wrote the run.")]
    base_server: Annotated[
        Mapping[str, Json], Column("What the base server said of itself: version, dtype, device and so on.")
    ]
    reasoning_server: Annotated[Mapping[str, Json], Column("What the reasoning server said of itself.")]
    finished_at: Annotated[datetime | None, Column("End of the run (UTC); NULL while it runs.")] = None
    error: Annotated[str | None, Column("Why a run failed.")] = None

    @property
    def kind(self) -> RunKind:
        """What made the run.

        Raises:
            StoreError: its configuration does not say it.
        """
        kind: RunKind | None = self.config.get("kind")
        if kind is None:
            raise StoreError(f"The configuration of run {self.run_id} does not say its kind.", "Run: rrti db upgrade FILE")
        return kind


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One generated solution.

    `n_tokens` counts generated tokens, the end token included; `text` leaves it out. `n_changed` counts the takeovers
    whose token differs from the one the base model drew there. `*_prompt_tokens` add up the prompt lengths of all calls
    to that server and `*_cached_tokens` what its radix cache served of them. A sample that continues the beginning of
    another one (program `counterfactual`) names it: the prompts end with that beginning, whose last token, at
    `parent_position` of `parent_sample_id` (-1: there is none), is the reasoning model's (`arm` "taken"), the base model's
    ("denied") or the one that is there ("kept").
    `answer_method` says how the answer was found, where the grader tells (see `rrti_sgl.grading`).
    """

    run_id: Annotated[str, Column("Run that it belongs to.", key=True)]
    sample_id: Annotated[str, Column("12 hex digits that follow from run, problem and index.", key=True)]
    problem_id: Annotated[str, Column("Problem it solves, in the run's problem set.")]
    sample_index: Annotated[int, Column("Which of the problem's samples it is, from 0.")]
    base_prompt: Annotated[str | None, Column("Prompt of the base model.")]
    reasoning_prompt: Annotated[str | None, Column("Prompt of the reasoning model.")]
    text: Annotated[str, Column("Generated text without the end token.")]
    n_tokens: Annotated[int, Column("Generated tokens, the end token included.")]
    n_takeovers: Annotated[int, Column("Tokens that the reasoning model took over.")]
    n_changed: Annotated[int, Column("Takeovers whose token differs from the one the base model drew there.")]
    finish_reason: Annotated[
        FinishReason, Column("stop (end token), length (limit) or unknown (a given text that does not say how it ended).")
    ]
    answer: Annotated[str | None, Column("Answer read from the text; NULL when none was found.")]
    correct: Annotated[bool | None, Column("Whether the answer is right; NULL when the problem has no reference answer.")]
    started_at: Annotated[datetime, Column("Start of the sample (UTC).")]
    wall_ms: Annotated[float, Column("From start to end, waiting included, in milliseconds.")]
    base_calls: Annotated[int, Column("Requests to the base server.")]
    reasoning_calls: Annotated[int, Column("Requests to the reasoning server.")]
    base_ms: Annotated[float, Column("Time spent in requests to the base server, in milliseconds.")]
    reasoning_ms: Annotated[float, Column("Time spent in requests to the reasoning server, in milliseconds.")]
    base_prompt_tokens: Annotated[int, Column("Prompt tokens of all requests to the base server.", "wide")]
    base_cached_tokens: Annotated[int, Column("Of those, served from its radix cache.", "wide")]
    reasoning_prompt_tokens: Annotated[int, Column("Prompt tokens of all requests to the reasoning server.", "wide")]
    reasoning_cached_tokens: Annotated[int, Column("Of those, served from its radix cache.", "wide")]
    tokens_drafted: Annotated[int, Column("Tokens that the base model drafted.")]
    tokens_discarded: Annotated[int, Column("Drafted tokens that were thrown away.")]
    tokens_scored: Annotated[int, Column("Positions that the reasoning model scored.")]
    parent_sample_id: Annotated[str | None, Column("Sample whose beginning it continues (program counterfactual).")] = None
    parent_position: Annotated[int | None, Column("Position in that sample of the last given token; -1: none.")] = None
    arm: Annotated[
        str | None, Column("taken: that token is the reasoning model's; denied: the base model's; kept: the own.")
    ] = None
    answer_method: Annotated[str | None, Column("How the answer was found, such as boxed; NULL: unknown.")] = None


@dataclass(frozen=True, slots=True)
class TokenColumns:
    """The tokens of one sample as columns, each of length T = `n_tokens`; position t is row t.

    Scalar float columns hold NaN where a value was not computed (stored as NULL). `metrics` has one for each metric of
    `rrti_sgl.science.metrics`, and each is an attribute, too: `tokens.ce`. Top-k columns are (T, k) arrays, most probable
    first; a row that was not asked for holds ids of -1 and is stored as NULL. `base_token_id` is what the base
    model drew at that position (-1: it was not asked), `base_token_text` its text on its own, `reasoning_token_id` what
    the reasoning model drew. `planted` is 1/0 on worlds with known decision points, -1 elsewhere.
    """

    token_id: Annotated[IntArray, Column("The emitted token.", "integer")]
    token_text: Annotated[Sequence[str], Column("Text of the emitted token.")]
    source: Annotated[Sequence[Source], Column("Model that the emitted token is from: base or reasoning.")]
    base_token_id: Annotated[IntArray, Column("What the base model drew there; NULL: it was not asked.", "id")]
    base_token_text: Annotated[Sequence[str | None], Column("Text of that token on its own; NULL: it was not asked.")]
    reasoning_token_id: Annotated[IntArray, Column("What the reasoning model drew there; NULL: it was not asked.", "id")]
    base_logprob: Annotated[
        FloatArray, Column("Log-probability of the emitted token under the base model, in nats.", "number")
    ]
    reasoning_logprob: Annotated[
        FloatArray, Column("Log-probability of the emitted token under the reasoning model, in nats.", "number")
    ]
    score: Annotated[
        FloatArray, Column("What the gate saw: the run's metric, in its unit; 0 where a gate on doubt saw none.", "decided")
    ]
    local_mean: Annotated[
        FloatArray, Column("Mean score of the window before the token, in the unit of the metric.", "decided")
    ]
    fired: Annotated[BoolArray, Column("Whether the gate asked for a takeover.", "flag")]
    metrics: Annotated[Mapping[str, FloatArray], Column("By name.", "metrics")]
    base_tail_mass: Annotated[FloatArray, Column("Base probability outside its k most probable tokens.", "number")]
    reasoning_tail_mass: Annotated[FloatArray, Column("Reasoning probability outside its k most probable tokens.", "number")]
    planning_tag: Annotated[
        Sequence[str | None], Column("Category of the planning word it belongs to; NULL: not a planning word.")
    ]
    planted: Annotated[
        IntArray, Column("1 at planted decision points, 0 elsewhere; NULL where a world plants none.", "mark")
    ]
    base_topk_ids: Annotated[IntArray, Column("Base model's k most probable tokens in order; fewer by `top_k_mass`.", "ids")]
    base_topk_logprobs: Annotated[NDArray[np.float32], Column("Their log-probabilities, in nats.", "logprobs")]
    reasoning_topk_ids: Annotated[
        IntArray, Column("Reasoning model's k most probable tokens in order; fewer by `top_k_mass`.", "ids")
    ]
    reasoning_topk_logprobs: Annotated[NDArray[np.float32], Column("Their log-probabilities, in nats.", "logprobs")]

    def __getattr__(self, name: str) -> FloatArray:
        if name != "metrics" and name in self.metrics:
            return self.metrics[name]
        raise AttributeError(f"TokenColumns has no column {name!r}")


@dataclass(frozen=True, slots=True)
class SampleTrace:
    """A finished sample with its tokens: the unit that is written, whole, in one transaction.

    `score_metric` is the metric that the gate's scores are, where the gate named one.
    """

    sample: SampleRecord
    tokens: TokenColumns
    score_metric: str | None = None
