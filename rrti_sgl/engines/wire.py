"""What goes to SGLang's `/generate` and what comes back, as records. No network here.

One request type serves both models: drafting asks for new tokens, scoring for the distributions at positions that are
already there. Log-probabilities are raw (temperature 1, before top-p), in nats; the compact base64 format is used where
the server has it and the nested lists are read where it has not.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from rrti_sgl.errors import EndpointError
from rrti_sgl.records import FloatArray, IntArray
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.exact_numbers import Exact
from rrti_sgl.server_plugin.protocol import COLUMNS, KEY, Answer, NoAnswerError, Question, read_answer

Side = Literal["input", "output"]
_MAX_FLOAT32 = float(np.finfo(np.float32).max)
_LOGPROB_SLACK = 1e-2  # a certain token may come back a little above 0
UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError)
"""What reading an answer raises that is not what it should be."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a model draws its tokens: temperature 0 is greedy; `top_p` keeps the nucleus of that mass."""

    temperature: float = 0.0
    top_p: float = 1.0

    @property
    def greedy(self) -> bool:
        """Whether the draw is the most probable token."""
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True)
class GenerateRequest:
    """One sequence for one model.

    Args:
        input_ids: prompt and continuation so far.
        max_new_tokens: tokens to draw; 0 scores only.
        k: top log-probabilities at each position; 0 asks for none.
        sampling: how to draw.
        stop_token_ids: tokens that end the sequence (they are returned as the last output token).
        score_from: index of the first token of `input_ids` whose distribution is wanted; None wants none.
        logprob_ids: ids whose log-probability is wanted at every output position, whatever the top k hold.
        exact: ask the server's plugin for exact numbers of the output positions, or, where nothing is drawn, of the scored
            positions. A server without the plugin ignores it.
        named_ids: (rows, m) ids whose exact log-probabilities are wanted there: one row for the first output token, or
            one for each scored position.
        sequence_key: names the sample, so that a router sends all of its requests to one server.
        seed: of the draws, for servers that draw by seed and position (deterministic inference); others ignore it.
    """

    input_ids: Sequence[int]
    max_new_tokens: int
    k: int
    sampling: Sampling = Sampling()
    stop_token_ids: tuple[int, ...] = ()
    score_from: int | None = None
    logprob_ids: tuple[int, ...] = ()
    exact: bool = False
    named_ids: IntArray | None = field(default=None, compare=False)
    sequence_key: str | None = field(default=None, compare=False)
    seed: int | None = field(default=None, compare=False)

    @property
    def question(self) -> Question:
        """What the plugin is asked."""
        ids = np.empty((0, 0), np.int32) if self.named_ids is None else self.named_ids
        return Question(len(self.input_ids) if self.exact_side == "output" else self.score_from or 1, ids)

    @property
    def exact_side(self) -> Side:
        """Which positions the plugin is asked about."""
        return "output" if self.max_new_tokens else "input"


@dataclass(frozen=True, slots=True)
class Generation:
    """The answer to one `GenerateRequest`.

    `output_*` describe the m drawn tokens: ids (m,), log-probabilities (m,), distributions (m, k). `input_*` describe the
    scored positions `score_from .. len(input_ids) - 1`. `id_logprobs` (rows, ids) answers `logprob_ids`. Times in ms.
    Exact numbers that were asked for are in `output.exact` and `input.exact`; where they did not come, those are None and
    `exact_missing` says why.
    """

    output_ids: IntArray
    output_logprobs: FloatArray
    output: Distributions
    input_logprobs: FloatArray
    input: Distributions
    id_logprobs: FloatArray
    stopped: bool
    prompt_tokens: int
    cached_tokens: int
    elapsed_ms: float = field(default=0.0)
    exact_missing: str | None = None


def payload(requests: Sequence[GenerateRequest], rids: Sequence[str]) -> dict[str, Any]:
    """The JSON body of one `/generate` call for a batch of requests."""
    body: dict[str, Any] = {
        "rid": list(rids),
        "input_ids": [list(request.input_ids) for request in requests],
        "sampling_params": [_sampling_params(request) for request in requests],
        "return_logprob": [request.k > 0 for request in requests],
        "top_logprobs_num": [request.k for request in requests],
        # The first entry that the server returns has no distribution, so ask from one position earlier.
        "logprob_start_len": [-1 if r.score_from is None else r.score_from - 1 for r in requests],
        "return_flat_raw_top_logprobs": True,
        "return_flat_raw_output_top_logprobs": True,
        "return_flat_raw_top_logprobs_b64": True,
        "return_text_in_logprobs": False,
    }
    if any(request.logprob_ids for request in requests):
        body["token_ids_logprob"] = [list(request.logprob_ids) for request in requests]
    return body


def longest_answer(n_tokens: int, n_entries: int) -> int:
    """Bytes that an answer may have: of so many tokens, each with its text and so many entries of lists."""
    return 2**20 + 128 * n_tokens * (n_entries + 8)


def single_payload(request: GenerateRequest, rid: str) -> dict[str, Any]:
    """The JSON body for one request on its own, which is all that a router takes."""
    return {name: value[0] if isinstance(value, list) else value for name, value in payload([request], [rid]).items()}


def _sampling_params(request: GenerateRequest) -> dict[str, Any]:
    params: dict[str, Any] = {
        "max_new_tokens": request.max_new_tokens,
        "temperature": request.sampling.temperature,
        "top_p": request.sampling.top_p,
        "skip_special_tokens": False,
    }
    if request.stop_token_ids:
        params["stop_token_ids"] = list(request.stop_token_ids)
    if request.seed is not None and not request.sampling.greedy:
        params["sampling_seed"] = request.seed
    if request.exact:
        params["custom_params"] = {KEY: request.question.to_json()}
    return params


def parse(request: GenerateRequest, answer: Mapping[str, Any], vocab_size: int) -> Generation:
    """Read the server's answer to one request.

    Raises:
        EndpointError: the answer lacks what was asked for (an aborted request, or no SGLang server).
    """
    try:
        meta: Mapping[str, Any] = answer["meta_info"]
        finish = meta.get("finish_reason") or {}
        if finish.get("type") == "abort":
            raise EndpointError(f"The server aborted a request: {finish.get('message', 'no reason given')}.")
        output_ids = token_ids(answer["output_ids"][: request.max_new_tokens], vocab_size)
        [n_output], n_input = output_ids.shape, _n_scored(request)
        output_pairs = (meta.get("output_token_logprobs") or [])[:n_output] if request.k else []
        input_pairs = (meta.get("input_token_logprobs") or [])[-n_input:] if n_input else []
        generation = Generation(
            output_ids=output_ids,
            output_logprobs=_logprob_column(output_pairs, n_output if request.k else 0),
            output=_top_logprobs(meta, "output", n_output, request.k, vocab_size),
            input_logprobs=_logprob_column(input_pairs, n_input),
            input=_top_logprobs(meta, "input", n_input, request.k, vocab_size),
            id_logprobs=_id_logprobs(meta, len(request.logprob_ids), n_output),
            stopped=finish.get("type") == "stop",
            prompt_tokens=int(meta["prompt_tokens"]),
            cached_tokens=int(meta.get("cached_tokens") or 0),
        )
    except UNREADABLE as error:
        raise EndpointError(
            f"The server's answer to /generate cannot be read: {type(error).__name__}: {error}.",
            "Is it an SGLang server of version 0.5.17 or later?",
        ) from error
    wanted = max(n_output, min(1, request.max_new_tokens))
    if len(generation.input) != n_input or (request.k and len(generation.output) != n_output) or n_output != wanted:
        raise EndpointError(
            f"The server returned {len(generation.input)} scored positions for {n_input} asked, and "
            f"{len(generation.output)} for {n_output} generated tokens."
        )
    return _with_exact(request, generation, meta) if request.exact else generation


def _with_exact(request: GenerateRequest, generation: Generation, meta: Mapping[str, Any]) -> Generation:
    """The generation with what the plugin said; where it said nothing, the top-k lists stand alone."""
    rows = generation.output if request.exact_side == "output" else generation.input
    try:
        exact = _exact(request.question, read_answer(meta), len(rows))
    except NoAnswerError as error:
        return replace(generation, exact_missing=str(error))
    rows = replace(rows, exact=exact)
    return replace(generation, output=rows) if request.exact_side == "output" else replace(generation, input=rows)


def _exact(question: Question, answer: Answer, n: int) -> Exact:
    values, m = answer.values, question.ids.shape[1]
    if values.ndim != 2 or values.shape[1] != COLUMNS + m or len(values) < n:
        raise NoAnswerError(f"{values.shape} numbers came for {n} positions of {m} named ids")
    numbers: FloatArray = values[:n].astype(np.float64)
    named = np.full((n, m), -1, dtype=np.int32)
    named[: len(question.ids)] = question.ids[:n]
    return Exact(numbers[:, 0], numbers[:, 1], named, numbers[:, COLUMNS:])


def _n_scored(request: GenerateRequest) -> int:
    return 0 if request.score_from is None or not request.k else len(request.input_ids) - request.score_from


def _logprob_column(pairs: Sequence[Sequence[Any]], n: int) -> FloatArray:
    if len(pairs) != n:
        raise ValueError(f"{len(pairs)} log-probabilities of {n} tokens")
    return np.asarray([pair[0] for pair in pairs], dtype=np.float64)


def _id_logprobs(meta: Mapping[str, Any], n_ids: int, n_rows: int) -> FloatArray:
    rows = (meta.get("output_token_ids_logprobs") or [])[:n_rows] if n_ids else []
    if n_ids and len(rows) != n_rows:
        raise ValueError(f"log-probabilities of named tokens at {len(rows)} of {n_rows} positions")
    return np.asarray([[entry[0] for entry in row] for row in rows], dtype=np.float64).reshape(len(rows), n_ids)


def _top_logprobs(meta: Mapping[str, Any], side: Side, n: int, k: int, vocab_size: int) -> Distributions:
    """The last or first n rows of one side's top-k lists: inputs end at the last token, outputs begin at the first."""
    if not n or not k:
        return Distributions.empty(k, vocab_size)
    if f"{side}_top_logprobs_val_flat_b64" in meta:
        shape = meta[f"{side}_top_logprobs_shape"]
        logprobs = np.frombuffer(base64.b64decode(meta[f"{side}_top_logprobs_val_flat_b64"]), np.float32).reshape(shape)
        ids = np.frombuffer(base64.b64decode(meta[f"{side}_top_logprobs_idx_flat_b64"]), np.int32).reshape(shape)
    else:
        rows = [row for row in meta[f"{side}_top_logprobs"] if row]
        logprobs = np.asarray([[entry[0] for entry in row] for row in rows], dtype=np.float32)
        ids = np.asarray([[entry[1] for entry in row] for row in rows], dtype=np.int32)
    window = slice(-n, None) if side == "input" else slice(0, n)
    # The server clamps log 0 to the smallest float32; give it its real value back.
    logprobs = np.where(logprobs <= -_MAX_FLOAT32, -np.inf, logprobs)[window].astype(np.float32)
    if logprobs.shape[1:] != (k,):
        raise ValueError(f"the {side} lists are {logprobs.shape} for {k} log-probabilities")
    if not (logprobs <= _LOGPROB_SLACK).all():
        raise ValueError(f"the {side} log-probabilities are NaN, or above 0")
    return Distributions(ids=token_ids(ids[window], vocab_size), logprobs=logprobs, vocab_size=vocab_size)


def token_ids(values: Any, vocab_size: int) -> IntArray:
    """Token ids of an answer; their range is checked where the vocabulary's size is known.

    Raises:
        ValueError: they are none.
    """
    ids = np.asarray(values)
    if ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= (vocab_size or 2**31)):
        raise ValueError(f"token ids are no whole numbers from 0 to {vocab_size - 1}, the vocabulary")
    return ids.astype(np.int32, copy=False)
