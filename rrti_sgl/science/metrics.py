"""The metrics of a token, each declared once.

Everything that has to do with a metric follows from its entry here: what a gate may see and a statistic be asked for, the
column of the store in every layout and view, what the schema page says of it. Adding one is an entry, its function in
`rrti_sgl.science.divergences`, and a migration that adds the column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from rrti_sgl.columns import Field, columns_of
from rrti_sgl.records import FloatArray, TokenColumns
from rrti_sgl.science import divergences
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import Divergence, Models, entropy

MetricKind = Literal["divergence", "base", "reasoning"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One number for each position.

    Args:
        name: how it is called everywhere, its column in the table of tokens included.
        value: the numbers, (n,). On truncated lists each is a lower bound of what the whole distributions give, and a
            row's is bit for bit the same in every batch.
        uncovered: the probability mass, (n,), that the bound does not see; 0 where the number is exact.
        kind: "divergence" compares the two models; "base" and "reasoning" are of that model alone.
        unit: of the number; empty for a plain one.
        meaning: what it is, in a few words.
    """

    name: str
    value: Callable[[Models], FloatArray]
    uncovered: Callable[[Models], FloatArray]
    kind: MetricKind
    unit: Literal["nats", ""]
    meaning: str

    @property
    def comment(self) -> str:
        """The meaning with the unit, as a sentence."""
        return f"{self.meaning}, in {self.unit}." if self.unit else f"{self.meaning}."

    def __call__(self, base: Distributions | None, reasoning: Distributions | None) -> Divergence:
        """The metric at n positions; a model that it does not read may be None."""
        models = Models(base, reasoning)
        return Divergence(self.value(models), self.uncovered(models))


_DECLARED: Final = (
    Metric(
        "ce",
        divergences.cross_entropy,
        uncovered=lambda models: models.base_tail,
        kind="divergence",
        unit="nats",
        meaning="Cross-entropy of base against reasoning, -sum p_b log p_r",
    ),
    Metric(
        "kl",
        divergences.forward_kl,
        uncovered=lambda models: models.reasoning_tail,
        kind="divergence",
        unit="nats",
        meaning="Forward KL(p_r || p_b)",
    ),
    Metric(
        "reverse_kl",
        divergences.reverse_kl,
        uncovered=lambda models: models.base_tail,
        kind="divergence",
        unit="nats",
        meaning="KL(p_b || p_r) = ce - entropy_base",
    ),
    Metric(
        "js",
        divergences.jensen_shannon,
        uncovered=lambda models: (models.base_tail + models.reasoning_tail) / 2.0,
        kind="divergence",
        unit="nats",
        meaning="Jensen-Shannon divergence (at most ln 2)",
    ),
    Metric(
        "tv",
        divergences.total_variation,
        uncovered=lambda models: np.maximum(models.base_tail, models.reasoning_tail),
        kind="divergence",
        unit="",
        meaning="Total variation distance, from 0 to 1",
    ),
    Metric(
        "entropy_base",
        lambda models: entropy(models.base).value,
        uncovered=lambda models: entropy(models.base).uncovered,
        kind="base",
        unit="nats",
        meaning="Entropy of the base distribution",
    ),
    Metric(
        "entropy_reasoning",
        lambda models: entropy(models.reasoning).value,
        uncovered=lambda models: entropy(models.reasoning).uncovered,
        kind="reasoning",
        unit="nats",
        meaning="Entropy of the reasoning distribution",
    ),
)

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in _DECLARED}
"""Every metric by its name, in the order of the documentation."""


def token_fields() -> tuple[Field, ...]:
    """The fields of `TokenColumns`, each metric in the place of all of them."""
    found: list[Field] = []
    for field in columns_of(TokenColumns):
        metrics = [Field(metric.name, "number", True, False, metric.comment) for metric in METRICS.values()]
        found += metrics if field.kind == "metrics" else [field]
    return tuple(found)


def divergence_names() -> tuple[str, ...]:
    """The metrics that compare the two models."""
    return tuple(name for name, metric in METRICS.items() if metric.kind == "divergence")


def unit_of(score: str) -> str:
    """The unit of a metric; a score that is none is taken to be in nats."""
    return METRICS[score].unit if score in METRICS else "nats"


def all_metrics(base: Distributions, reasoning: Distributions) -> dict[str, FloatArray]:
    """Every metric from one alignment: name -> (n,) values, bit for bit those of the single ones."""
    models = Models(base, reasoning)
    return {name: metric.value(models) for name, metric in METRICS.items()}
