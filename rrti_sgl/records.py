"""The stored records: one frozen dataclass for each table of the trace store.

A record is what the decoding side hands over and the store keeps. `rrti_sgl.db.models` declares the tables with the same
names, and `rrti_sgl.db.record_rows` is the one place that turns records into rows. `SampleTrace` holds a whole sample: its
row of `samples` and its tokens as columns, because a sample is written in one transaction or not at all.

Units: log-probabilities, divergences and entropies in nats at temperature 1; lengths in tokens; times in milliseconds.
`None` (NULL) means "not computed", never zero.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]
BoolArray = NDArray[np.bool_]

Source = Literal["base", "reasoning"]
ScoreKind = Literal["full", "topk", "plugin"]
FinishReason = Literal["stop", "length", "unknown"]  # unknown: a given text that does not say
RunStatus = Literal["running", "finished", "failed", "interrupted"]
Json = Any


def sample_key(run_id: str, problem_id: str, sample_index: int) -> str:
    """The id of a sample: 12 hex digits that depend on nothing but its place in the run, so that retries never double."""
    return hashlib.sha256(f"{run_id}\n{problem_id}\n{sample_index}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class ProblemRecord:
    """One problem. `metadata` holds what the problem set knows beyond question and answer (JSON)."""

    problem_id: str
    problem_set: str
    question: str
    answer: str | None
    metadata: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CalibrationRecord:
    """Thresholds taken from base rollouts, with everything they are valid for.

    `tau` is the (1 - spike_ratio)-quantile of the scores and `lambda_` is E[s | s > tau] / E[s] (paper, section
    "Intervention"). `k` and `score_kind` belong to it: scores truncated at another k are on another scale.
    """

    calibration_id: str
    run_id: str
    created_at: datetime
    base_model: str
    reasoning_model: str
    tokenizer_hash: str
    metric: str
    score_kind: ScoreKind
    k: int
    spike_ratio: float
    tau: float
    lambda_: float
    mean_score: float
    n_tokens: int
    n_samples: int
    mean_length: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run of one program over one problem set.

    The gate is in `gate` and `gate_params` (JSON), and, where it is a threshold rule, in `tau`, `lambda_` (None = the
    lambda condition is off), `window` and `warmup`, so that SQL can replay it on the tokens:
    `fired = score > tau AND (lambda_ IS NULL OR <warm-up rule while position < window> OR score > lambda_ * local_mean)`.
    """

    run_id: str
    program: str
    status: RunStatus
    created_at: datetime
    config: Mapping[str, Json]
    config_hash: str
    base_model: str | None
    reasoning_model: str | None
    tokenizer_hash: str
    vocab_size: int
    problem_set: str
    n_problems: int
    samples_per_problem: int
    k: int
    score_kind: ScoreKind
    metric: str | None
    gate: str | None
    gate_params: Mapping[str, Json]
    tau: float | None
    lambda_: float | None
    window: int | None
    warmup: str | None
    calibration_id: str | None
    tagger: str
    grader: str
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int
    package_version: str
    base_server: Mapping[str, Json]
    reasoning_server: Mapping[str, Json]
    finished_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """One generated solution.

    `n_tokens` counts generated tokens, the end token included; `text` leaves it out. `n_changed` counts the takeovers
    whose token differs from the one the base model drew there. `*_prompt_tokens` add up the prompt lengths of all calls
    to that server and `*_cached_tokens` what its radix cache served of them. A sample that continues the beginning of
    another one (program `counterfactual`) names it: the prompts end with that beginning, whose last token, at
    `parent_position` of `parent_sample_id`, is the reasoning model's (`arm` "taken") or the base model's ("denied").
    `answer_method` says how the answer was found, where the grader tells (see `rrti_sgl.grading`).
    """

    run_id: str
    sample_id: str
    problem_id: str
    sample_index: int
    base_prompt: str | None
    reasoning_prompt: str | None
    text: str
    n_tokens: int
    n_takeovers: int
    n_changed: int
    finish_reason: FinishReason
    answer: str | None
    correct: bool | None
    started_at: datetime
    wall_ms: float
    base_calls: int
    reasoning_calls: int
    base_ms: float
    reasoning_ms: float
    base_prompt_tokens: int
    base_cached_tokens: int
    reasoning_prompt_tokens: int
    reasoning_cached_tokens: int
    tokens_drafted: int
    tokens_discarded: int
    tokens_scored: int
    parent_sample_id: str | None = None
    parent_position: int | None = None
    arm: str | None = None
    answer_method: str | None = None


@dataclass(frozen=True, slots=True)
class TokenColumns:
    """The tokens of one sample as columns, each of length T = `n_tokens`; position t is row t.

    Scalar float columns hold NaN where a value was not computed (stored as NULL). Top-k columns are (T, k) arrays, most
    probable first; a row that was not asked for holds ids of -1 and is stored as NULL. `base_token_id` is what the base
    model drew at that position (-1: it was not asked), `base_token_text` its text on its own, `reasoning_token_id` what
    the reasoning model drew. `planted` is 1/0 on worlds with known decision points, -1 elsewhere.
    """

    token_id: IntArray
    token_text: Sequence[str]
    source: Sequence[Source]
    base_token_id: IntArray
    base_token_text: Sequence[str | None]
    reasoning_token_id: IntArray
    base_logprob: FloatArray
    reasoning_logprob: FloatArray
    score: FloatArray
    local_mean: FloatArray
    fired: BoolArray
    ce: FloatArray
    kl: FloatArray
    reverse_kl: FloatArray
    js: FloatArray
    tv: FloatArray
    entropy_base: FloatArray
    entropy_reasoning: FloatArray
    base_tail_mass: FloatArray
    reasoning_tail_mass: FloatArray
    planning_tag: Sequence[str | None]
    planted: IntArray
    base_topk_ids: IntArray
    base_topk_logprobs: NDArray[np.float32]
    reasoning_topk_ids: IntArray
    reasoning_topk_logprobs: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SampleTrace:
    """A finished sample with its tokens: the unit that is written, whole, in one transaction."""

    sample: SampleRecord
    tokens: TokenColumns
