"""A trace as values of JSON: what an endpoint gives to a client that keeps the samples itself, and how it is read again.

Columns are packed as base64 of little-endian numbers in full precision, so that what is stored of it is what the endpoint
itself would store. Times are the client's own.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.decoding.trace import CallTotals, TraceBuilder
from rrti_sgl.engines.wire import token_ids
from rrti_sgl.records import FinishReason, Source
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.science.threshold import Decision, Reason

_SOURCES: Final = get_args(Source)
_REASONS: Final = get_args(Reason)
_TOKEN: Final = np.dtype(
    [
        *((name, "<i4") for name in ("token", "base_token", "reasoning_token")),  # -1: the model drew none
        *((name, "<f8") for name in ("base_logprob", "reasoning_logprob", "score", "threshold", "local_mean")),
        *((name, "u1") for name in ("fired", "reason", "source", "seen")),
    ]
)


def pack(trace: TraceBuilder) -> dict[str, Any]:
    """A finished trace, without its times.

    Raises:
        ValueError: it holds a server plugin's exact numbers, which are not packed.
    """
    rows = np.empty(len(trace), _TOKEN)
    for name, values in {
        "token": trace.token_ids,
        "base_token": trace.base_token_ids,
        "reasoning_token": trace.reasoning_token_ids,
        "base_logprob": trace.base_logprobs,
        "reasoning_logprob": trace.reasoning_logprobs,
        "score": [decision.score for decision in trace.decisions],
        "threshold": [decision.threshold for decision in trace.decisions],
        "local_mean": [math.nan if each.local_mean is None else each.local_mean for each in trace.decisions],
        "fired": [decision.fired for decision in trace.decisions],
        "reason": [_REASONS.index(decision.reason) for decision in trace.decisions],
        "source": [_SOURCES.index(source) for source in trace.sources],
        "seen": trace.seen,
    }.items():
        rows[name] = values
    return {
        "tokens": _text(rows),
        "base": _lists(trace.base.positions, trace.base.gathered()),
        "reasoning": _lists(trace.reasoning.positions, trace.reasoning.gathered()),
        "measured": None if trace.measured is None else _text(np.asarray(trace.measured, "<f8")),
        "gated": trace.gate is not None,
        "calls": [asdict(calls) for calls in (trace.base_calls, trace.reasoning_calls)],
        "counts": [trace.drafted, trace.discarded, trace.scored],
        "finish_reason": trace.finish_reason,
    }


def unpack(packed: Mapping[str, Any], trace: TraceBuilder, vocab_size: int) -> None:
    """Fill an empty trace, and end it now.

    Args:
        packed: as `pack` gives it.
        trace: of the gate that decided and with the k that was asked for.
        vocab_size: of both models.

    Raises:
        KeyError, TypeError, ValueError, IndexError: it is none (`rrti_sgl.engines.wire.UNREADABLE`).
    """
    rows = _numbers(packed["tokens"], _TOKEN)
    reason = packed["finish_reason"]
    if reason not in get_args(FinishReason):
        raise ValueError(f"no sample ends by {reason!r}")
    for name in ("token", "base_token", "reasoning_token"):
        token_ids(rows[name] if name == "token" else np.maximum(rows[name], 0), vocab_size)
    trace.token_ids = rows["token"].tolist()
    trace.base_token_ids, trace.reasoning_token_ids = rows["base_token"].tolist(), rows["reasoning_token"].tolist()
    trace.base_logprobs, trace.reasoning_logprobs = rows["base_logprob"].tolist(), rows["reasoning_logprob"].tolist()
    trace.sources = [_SOURCES[i] for i in rows["source"].tolist()]
    trace.seen = rows["seen"].astype(bool).tolist()
    trace.decisions = [
        Decision(bool(fired), score, threshold, None if math.isnan(mean) else mean, _REASONS[why])
        for fired, score, threshold, mean, why in rows[["fired", "score", "threshold", "local_mean", "reason"]].tolist()
    ]
    for side, lists in (("base", trace.base), ("reasoning", trace.reasoning)):
        positions, distributions = _read_lists(packed[side], len(rows), trace.k, vocab_size)
        lists.positions, lists.parts = positions, [distributions] if positions else []
    if packed["measured"] is not None:
        trace.measured = _numbers(packed["measured"], np.dtype("<f8")).reshape(len(rows), len(METRICS))
    if not packed["gated"]:
        trace.gate = None
    trace.base_calls, trace.reasoning_calls = (_totals(calls) for calls in packed["calls"])
    trace.drafted, trace.discarded, trace.scored = (int(count) for count in packed["counts"])
    trace.finish(reason)


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _numbers(text: str, kind: np.dtype[Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), kind)


def _lists(positions: list[int], lists: Distributions | None) -> dict[str, str] | None:
    if lists is None:
        return None
    if lists.exact is not None:
        raise ValueError("exact numbers are not packed")
    return {
        "positions": _text(np.asarray(positions, "<i4")),
        "ids": _text(lists.ids.astype("<i4", copy=False)),
        "logprobs": _text(lists.logprobs.astype("<f4", copy=False)),
    }


def _read_lists(packed: Mapping[str, str] | None, n: int, k: int, vocab_size: int) -> tuple[list[int], Distributions]:
    if packed is None:
        return [], Distributions.empty(k, vocab_size)
    positions = _numbers(packed["positions"], np.dtype("<i4"))
    if len(positions) and not (positions[0] >= 0 and positions[-1] < n and (np.diff(positions) > 0).all()):
        raise ValueError("the positions of its lists do not ascend within the sample")
    ids = _numbers(packed["ids"], np.dtype("<i4")).reshape(len(positions), k)
    logprobs = _numbers(packed["logprobs"], np.dtype("<f4")).reshape(len(positions), k)
    return positions.tolist(), Distributions(ids, logprobs, vocab_size).validate()


def _totals(packed: Mapping[str, Any]) -> CallTotals:
    known = {entry.name: packed[entry.name] for entry in fields(CallTotals)}
    first = known.pop("first")
    elapsed = float(known.pop("elapsed_ms"))
    counts = {name: int(value) for name, value in known.items()}
    return CallTotals(**counts, elapsed_ms=elapsed, first=None if first is None else (int(first[0]), int(first[1])))
