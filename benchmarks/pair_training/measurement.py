"""Measuring the pair: what its model card and ``metrics.json`` state."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import Qwen3ForCausalLM

from pair_training.evaluation import (
    Gate,
    Rollout,
    calibrate,
    early_gate,
    entropy_gate,
    guided_rollouts,
    random_gate,
    realised_budget,
    threshold_gate,
)
from pair_training.phenomena import phenomena
from rrti_sgl.db.analysis.graded import Outcomes, difference_bounds, recovery_bounds
from rrti_sgl.statistics.resampling import RESAMPLES, SEED, ProblemBootstrap
from rrti_sgl.tinypair.problems import WorldProblem
from rrti_sgl.tinypair.solutions import equations, grade, prompt
from rrti_sgl.tinypair.tokenizer import encode
from rrti_sgl.tinypair.world import generate

log = logging.getLogger(__name__)

FloatArray = NDArray[np.float64]
SAMPLING_TEMPERATURE = 0.8
SAMPLES = 8


@dataclass(frozen=True, slots=True)
class MeasurementConfig:
    """Sizes of the measurement: greedy runs use every seed, sampled ones the first seed alone."""

    problems: int = 1000
    seeds: tuple[int, ...] = (0, 1, 2)
    calibration_problems: int = 300
    sampled_problems: int = 200
    ratios: tuple[float, ...] = (0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.13, 0.25)
    headline_ratio: float = 0.08
    top_shares: tuple[float, ...] = (0.03, 0.08)


class Measurement:
    """Runs one pair on held-out problems."""

    def __init__(self, base: Qwen3ForCausalLM, reasoning: Qwen3ForCausalLM, config: MeasurementConfig) -> None:
        self._base = base
        self._reasoning = reasoning
        self._config = config

    def run(self) -> dict[str, Any]:
        """Return everything measured, as a JSON-able record. Intervals are 95 %."""
        config = self._config
        problems = [p for seed in config.seeds for p in generate(seed, "heldout", config.problems)]
        calibration = list(generate(0, "calibration", config.calibration_problems))
        calibration_rollouts = self._decode(calibration, None)
        base_rollouts = self._decode(problems, None)
        base = _right(problems, base_rollouts)
        reasoning = _right(problems, self._alone(problems, self._reasoning))
        taus = {r: calibrate(calibration_rollouts, r) for r in config.ratios}
        entropy_tau = calibrate(calibration_rollouts, config.headline_ratio, by="base_entropy")
        gates: dict[str, Gate] = {f"guided r={r}": threshold_gate(tau) for r, tau in taus.items()}
        gates |= {
            f"entropy r={config.headline_ratio}": entropy_gate(entropy_tau),
            "random rho=0.25": random_gate(0.25, len(problems)),
            "early rho=0.25": early_gate(0.25, [len(r.ids) for r in base_rollouts]),
        }
        rows = {"base": _row(base), "reasoning": _row(reasoning)}
        right = {"base": base, "reasoning": reasoning}
        for name, gate in gates.items():
            rollouts = self._decode(problems, gate)
            right[name] = _right(problems, rollouts)
            rows[name] = _row(right[name]) | {
                "rho": realised_budget(rollouts),
                "tokens_changed": sum(sum(r.changed) for r in rollouts) / sum(len(r.ids) for r in rollouts),
                "recovery": _recovery(right[name], base, reasoning),
            }
            log.info("%s: %s", name, rows[name])
        headline = right[f"guided r={config.headline_ratio}"]
        controls = ("random rho=0.25", "early rho=0.25")
        return {
            "problems": len(problems),
            "headline": f"guided r={config.headline_ratio}",
            "greedy": rows,
            "by_seed": {name: _by_seed(values, len(config.seeds)) for name, values in right.items()},
            "ahead_of": {name: _ahead(headline, right[name]) for name in controls},
            "by_traps": _by_traps(problems, right, ("base", "reasoning", f"guided r={config.headline_ratio}")),
            "equations_right": _equations_right(base_rollouts),
            "tau": {str(r): tau for r, tau in taus.items()},
            "entropy_tau": entropy_tau,
            "mean_solution_tokens": float(np.mean([len(r.ids) for r in base_rollouts])),
            "phenomena": {str(share): phenomena(problems, base_rollouts, base, share) for share in config.top_shares},
            "sampled": self._sampled(taus[config.headline_ratio]),
        }

    def _sampled(self, tau: float) -> dict[str, Any]:
        problems = list(generate(self._config.seeds[0], "heldout", self._config.sampled_problems))
        repeated = [problem for problem in problems for _ in range(SAMPLES)]
        runs: dict[str, Callable[[], list[Rollout]]] = {
            "base": lambda: self._alone(repeated, self._base, SAMPLING_TEMPERATURE),
            "reasoning": lambda: self._alone(repeated, self._reasoning, SAMPLING_TEMPERATURE),
            f"guided r={self._config.headline_ratio}": lambda: self._decode(
                repeated, threshold_gate(tau), SAMPLING_TEMPERATURE
            ),
        }
        rows = {}
        for name, run in runs.items():
            right = _right(repeated, run()).reshape(-1, SAMPLES)
            rows[name] = {"accuracy": _interval(right.mean(1)), "pass@8": _interval(right.max(1))}
        return {"problems": len(problems), "temperature": SAMPLING_TEMPERATURE, "rows": rows}

    def _decode(self, problems: Sequence[WorldProblem], gate: Gate | None, temperature: float = 0.0) -> list[Rollout]:
        prompts = [encode(prompt(problem)) for problem in problems]
        return guided_rollouts(self._base, self._reasoning, prompts, gate, temperature=temperature)

    def _alone(self, problems: Sequence[WorldProblem], model: Qwen3ForCausalLM, temperature: float = 0.0) -> list[Rollout]:
        prompts = [encode(prompt(problem)) for problem in problems]
        return guided_rollouts(model, None, prompts, None, temperature=temperature)


def _right(problems: Sequence[WorldProblem], rollouts: Sequence[Rollout]) -> FloatArray:
    return np.array([grade(p, r.text)[1] for p, r in zip(problems, rollouts, strict=True)], dtype=np.float64)


def _row(right: FloatArray) -> dict[str, Any]:
    return {"accuracy": float(right.mean()), "standard_error": float(right.std() / np.sqrt(len(right)))}


def _interval(shares: FloatArray) -> list[float]:
    """``[value, low, high]`` of the mean over problems of shares (P,)."""
    found = ProblemBootstrap(len(shares), exact=True).share(shares, 1.0)
    return [found.estimate, found.low, found.high]


def _ahead(right: FloatArray, other: FloatArray) -> list[float]:
    """``[value, low, high]`` of a difference in accuracy, paired by problem."""
    return [float(right.mean() - other.mean()), *difference_bounds(_outcomes(right), _outcomes(other), "accuracy")]


def _recovery(right: FloatArray, base: FloatArray, reasoning: FloatArray) -> list[float]:
    """``[value, low, high]`` of the part of the reasoning model's lead that is recovered."""
    value = float((right.mean() - base.mean()) / (reasoning.mean() - base.mean()))
    return [value, *recovery_bounds([(_outcomes(right), _outcomes(base), _outcomes(reasoning))], "accuracy")]


def _outcomes(right: FloatArray) -> Outcomes:
    """One sample a problem, right or wrong, (P,)."""
    columns = {"n": np.ones(len(right)), "c": right, "takeovers": np.zeros(len(right)), "tokens": np.ones(len(right))}
    return Outcomes(columns, 1, {"resamples": RESAMPLES, "seed": SEED}, has_gate=False)


def _by_seed(right: FloatArray, n_seeds: int) -> list[float]:
    return [float(part.mean()) for part in np.split(right, n_seeds)]


def _by_traps(
    problems: Sequence[WorldProblem], right: dict[str, FloatArray], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[int]] = {}
    for index, problem in enumerate(problems):
        groups.setdefault(str(len(problem.traps)), []).append(index)
        if len(problem.traps) == 1:
            groups.setdefault(problem.traps[0], []).append(index)
    return {
        group: {"problems": len(rows)} | {name: float(right[name][rows].mean()) for name in names}
        for group, rows in sorted(groups.items())
    }


def _equations_right(rollouts: Sequence[Rollout]) -> float:
    return float(np.mean([holds for rollout in rollouts for _, holds in equations(rollout.text)]))
