"""The metrics of a trace are those of the distributions that it keeps, whoever computed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from rrti_sgl.decoding import trace as traces
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.records import FloatArray
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import Models
from rrti_sgl.science.gates import DivergenceGate, Gate, MetricGate, NeverGate, Steps, ThresholdRule
from rrti_sgl.science.metrics import METRICS
from tests.decoding.test_conformance import GATES, make_job, options, run_decoding
from tests.toy_pair import VOCAB_SIZE, ToyEngine


class DoubledGate(DivergenceGate):
    """Says that its score is a divergence, and scores by twice as much."""

    def signal(self, steps: Steps) -> FloatArray:
        return 2.0 * super().signal(steps)


class LoneGate(MetricGate):
    """A metric of the reasoning model alone."""

    name = "lone"


MORE: dict[str, Gate] = {
    "reverse kl, diagnosed": NeverGate("reverse_kl"),
    "entropy of the reasoning model": LoneGate(ThresholdRule(tau=1.0), "entropy_reasoning"),
    "doubled": DoubledGate("ce", ThresholdRule(tau=2.0)),
}


@pytest.fixture
def unsteady(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models whose answers to the same question differ by rounding, as those of real servers do."""
    steady = ToyEngine.distribution
    rng = np.random.default_rng(0)

    def distribution(self: ToyEngine, prefix: Sequence[int], k: int) -> Distributions:
        found = steady(self, prefix, VOCAB_SIZE)
        shifted = found.logprobs - np.sort(rng.random(found.logprobs.shape)).astype(np.float32) * np.float32(1e-4)
        return Distributions(found.ids[:, :k], shifted[:, :k], VOCAB_SIZE)

    monkeypatch.setattr(ToyEngine, "distribution", distribution)


def expected(trace: TraceBuilder) -> dict[str, FloatArray]:
    """Every metric position by position, from the distributions that the trace keeps."""
    n = len(trace)
    kept: list[dict[str, Distributions]] = [{} for _ in range(n)]
    for model, rows in (("base", trace.base), ("reasoning", trace.reasoning)):
        gathered = rows.gathered()
        for row, position in enumerate(rows.positions):
            assert gathered is not None
            kept[position][model] = gathered[row : row + 1]
    columns = {name: np.full(n, np.nan) for name in METRICS}
    for name, metric in METRICS.items():
        reads = {"divergence": ("base", "reasoning"), "base": ("base",), "reasoning": ("reasoning",)}[metric.kind]
        for position, models in enumerate(kept):
            if all(model in models for model in reads):
                columns[name][position] = metric(models.get("base"), models.get("reasoning")).value[0]
    return columns


@pytest.mark.usefixtures("unsteady")
@pytest.mark.parametrize(
    ("decoding", "changes"),
    [
        *(("chunked", changes) for changes in ({}, {"sampling": Sampling(1.0), "k": 2}, {"takeover_tokens": 3})),
        ("lockstep", {"sampling": Sampling(0.7), "k": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", [*GATES, *MORE])
def test_every_metric_is_that_of_the_kept_distributions(name: str, changes: dict[str, object], decoding: str) -> None:
    gate = (GATES | MORE)[name]
    for trace in run_decoding(decoding, gate, options(**changes), [make_job(seed) for seed in range(6)]):
        found = trace.metrics()
        for metric, column in expected(trace).items():
            np.testing.assert_array_equal(found[metric], column, err_msg=metric)


@pytest.mark.parametrize("decoding", ["chunked", "lockstep"])
def test_what_the_gate_saw_is_not_computed_again(monkeypatch: pytest.MonkeyPatch, decoding: str) -> None:
    [trace] = run_decoding(decoding, GATES["ce"], options(), [make_job(3)])

    def fail(models: Models) -> FloatArray:
        raise AssertionError("the gate computed it")

    again = MappingProxyType({**METRICS, "ce": replace(METRICS["ce"], value=fail)})
    monkeypatch.setattr(traces, "METRICS", again)
    found = trace.metrics()
    np.testing.assert_array_equal(found["ce"], [decision.score for decision in trace.decisions])
    assert np.isfinite(found["kl"]).all()


def test_a_gate_that_changes_the_metric_does_not_measure_it() -> None:
    assert GATES["ce"].measures
    assert not MORE["doubled"].measures
    assert not NeverGate().measures
    assert not GATES["random"].measures
