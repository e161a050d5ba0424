"""Collects what was decided at each position, and turns it into the columns of the store."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.engines.wire import Generation
from rrti_sgl.records import FinishReason, FloatArray, IntArray, Source
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import Models
from rrti_sgl.science.gates import Gate
from rrti_sgl.science.metrics import METRICS, MetricKind
from rrti_sgl.science.threshold import Decision


@dataclass(slots=True)
class CallTotals:
    """What one model was asked for by one sample. Times are shares of batched calls, in ms.

    `first` has the prompt's tokens and how many of them were cached, of the first call alone.
    """

    calls: int = 0
    elapsed_ms: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    first: tuple[int, int] | None = None

    def add(self, generation: Generation) -> None:
        """Count one answer."""
        self.first = self.first or (generation.prompt_tokens, generation.cached_tokens)
        self.calls += 1
        self.elapsed_ms += generation.elapsed_ms
        self.prompt_tokens += generation.prompt_tokens
        self.cached_tokens += generation.cached_tokens


@dataclass(slots=True)
class _Rows:
    """Distributions of one model at some of the positions."""

    positions: list[int] = field(default_factory=list)
    parts: list[Distributions] = field(default_factory=list)

    def add(self, start: int, rows: Distributions) -> None:
        self.positions.extend(range(start, start + len(rows)))
        self.parts.append(rows)

    def gathered(self) -> Distributions | None:
        return Distributions.concatenate(self.parts) if self.parts else None

    def padded(self, n: int, k: int, mass: float = 1.0) -> tuple[IntArray, NDArray[np.float32]]:
        """Top-k arrays over all n positions; ids are -1, log-probabilities NaN where the model was not asked.

        Lists end at a `mass` (see `Distributions.within`).
        """
        ids = np.full((n, k), -1, dtype=np.int32)
        logprobs = np.full((n, k), np.nan, dtype=np.float32)
        rows = self.gathered()
        if rows is not None:
            kept = rows.within(mass)
            ids[self.positions] = np.where(kept, rows.ids, -1)
            logprobs[self.positions] = np.where(kept, rows.logprobs, np.nan)
        return ids, logprobs

    def tail_mass(self, n: int) -> FloatArray:
        """Probability outside the k tokens over all n positions; NaN where the model was not asked."""
        mass, rows = np.full(n, np.nan), self.gathered()
        if rows is not None:
            mass[self.positions] = rows.tail_mass
        return mass


@dataclass(slots=True)
class TraceBuilder:
    """The growing trace of one sample.

    Lists have one entry per emitted token. Decoding loops call `emit` for tokens that were kept and read `token_ids`.

    Args:
        k: length of the lists that are asked for.
        gate: what the scores of the decisions are from; None where no gate is asked.
        measured: (T, m) every metric, where an engine measured them over the whole vocabulary itself.
    """

    k: int
    gate: Gate | None = None
    measured: FloatArray | None = None
    token_ids: list[int] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    base_token_ids: list[int] = field(default_factory=list)
    reasoning_token_ids: list[int] = field(default_factory=list)
    base_logprobs: list[float] = field(default_factory=list)
    reasoning_logprobs: list[float] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    seen: list[bool] = field(default_factory=list)
    base: _Rows = field(default_factory=_Rows)
    reasoning: _Rows = field(default_factory=_Rows)
    base_calls: CallTotals = field(default_factory=CallTotals)
    reasoning_calls: CallTotals = field(default_factory=CallTotals)
    drafted: int = 0
    discarded: int = 0
    scored: int = 0
    finish_reason: FinishReason = "length"
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _start: float = field(default_factory=perf_counter)
    wall_ms: float = 0.0

    def __len__(self) -> int:
        return len(self.token_ids)

    def emit(
        self,
        token_ids: Sequence[int],
        decisions: Sequence[Decision],
        *,
        source: Source,
        base: Distributions | None = None,
        reasoning: Distributions | None = None,
        base_token_ids: Sequence[int] | None = None,
        reasoning_token_ids: Sequence[int] | None = None,
        base_logprobs: Sequence[float] | None = None,
        reasoning_logprobs: Sequence[float] | None = None,
        seen: bool = False,
    ) -> None:
        """Append n kept tokens of one source with what both models said there; None means the model was not asked.

        `seen` says that the gate made its scores of these very distributions, and not of an earlier answer.
        """
        n, start = len(token_ids), len(self.token_ids)
        self.token_ids.extend(int(i) for i in token_ids)
        self.sources.extend([source] * n)
        self.decisions.extend(decisions)
        self.seen.extend([seen] * n)
        self.base_token_ids.extend([-1] * n if base_token_ids is None else (int(i) for i in base_token_ids))
        self.reasoning_token_ids.extend([-1] * n if reasoning_token_ids is None else (int(i) for i in reasoning_token_ids))
        self.base_logprobs.extend([math.nan] * n if base_logprobs is None else map(float, base_logprobs))
        self.reasoning_logprobs.extend([math.nan] * n if reasoning_logprobs is None else map(float, reasoning_logprobs))
        if base is not None:
            self.base.add(start, base)
        if reasoning is not None:
            self.reasoning.add(start, reasoning)

    def is_over(self, stop_token_ids: Collection[int], limit: int) -> bool:
        """Finish the trace where its last token ends it: an end token, or the last that there may be."""
        stopped = bool(self.token_ids) and self.token_ids[-1] in stop_token_ids
        over = stopped or len(self) == limit
        if over:
            self.finish("stop" if stopped else "length")
        return over

    def finish(self, reason: FinishReason) -> None:
        """Note why and when the sample ended."""
        self.finish_reason = reason
        self.wall_ms = (perf_counter() - self._start) * 1e3

    def metrics(self) -> dict[str, FloatArray]:
        """Every metric by name, (T,) each; NaN where a model that it reads was not asked.

        The one that the gate decided by is what the gate saw, where it saw all of the distributions that are kept.
        """
        columns = {name: np.full(len(self), np.nan) for name in METRICS}
        for kind, (positions, models) in self._models().items():
            for column, metric in enumerate(METRICS.values()):
                if metric.kind == kind:
                    scores = self._scores(metric.name, positions)
                    if scores is None:
                        scores = metric.value(models) if self.measured is None else self.measured[positions, column]
                    columns[metric.name][positions] = scores
        return columns

    def _models(self) -> dict[MetricKind, tuple[IntArray, Models]]:
        """What metrics of each kind are made of: positions, in ascending order, and what the models said there."""
        base, reasoning = self.base.gathered(), self.reasoning.gathered()
        found: dict[MetricKind, tuple[IntArray, Models]] = {}
        if base is not None:
            found["base"] = np.asarray(self.base.positions), Models(base, None)
        if reasoning is not None:
            found["reasoning"] = np.asarray(self.reasoning.positions), Models(None, reasoning)
        if base is not None and reasoning is not None:
            both, of_base, of_reasoning = np.intersect1d(
                self.base.positions, self.reasoning.positions, assume_unique=True, return_indices=True
            )
            found["divergence"] = both, Models(base[of_base], reasoning[of_reasoning])
        return found

    def _scores(self, metric: str, positions: IntArray) -> FloatArray | None:
        """The gate's scores, if they are this metric of just these distributions."""
        if self.gate is None or not self.gate.measures or self.gate.metric != metric:
            return None
        if not all(self.seen[position] for position in positions):
            return None
        return np.asarray([self.decisions[position].score for position in positions])

    def with_base_logprob(self, position: int, logprob: float) -> None:
        """Fill in the base model's log-probability of an emitted token that its top k did not hold."""
        self.base_logprobs[position] = logprob
