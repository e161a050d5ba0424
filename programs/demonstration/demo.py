"""The demonstration: the paper's comparison in a few minutes, on the bundled pair.

Greedy: the base model, the reasoning model, guided at two budgets, the entropy gate, lambda on under two warm-up rules,
and the controls: takeovers at random, at first and by entropy, as many as guided's, also in the places of guided's, and
both at a larger budget. Sampled: the main rows again with several samples a problem, for pass@k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rrti_sgl.db.store import Store
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.runner import OnProgress, run_program
from rrti_sgl.programs.running.session import PairSession
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.calibrate import calibrate_on_run

LOW_RATIO, HIGH_RATIO = 0.04, 0.08
CONTROL_BUDGET = 0.25
TEMPERATURE = 0.8
MAIN = f"guided r={HIGH_RATIO:.2f}"  # the row that the claims are made of


@dataclass(frozen=True, slots=True)
class DemoSize:
    """How much the demonstration does.

    Args:
        problems: held-out problems of the greedy rows.
        calibration_problems: problems of the calibration, from another split.
        sampled_problems: held-out problems of the sampled rows.
        samples: samples for each of them.
    """

    problems: int = 200
    calibration_problems: int = 200
    sampled_problems: int = 30
    samples: int = 8


@dataclass
class DemoRuns:
    """Run ids of the demonstration by what they are called in its tables."""

    diagnose: str = ""
    greedy: dict[str, str] = field(default_factory=dict)
    sampled: dict[str, str] = field(default_factory=dict)


def greedy_rows() -> dict[str, tuple[str, GateOptions]]:
    """The greedy rows of the table: label -> program and gate options; `like` is a label of a row before."""
    low, high, budget = f"r={LOW_RATIO:.2f}", f"r={HIGH_RATIO:.2f}", f"{CONTROL_BUDGET:.0%}"
    alike = GateOptions(like=MAIN)
    with_lambda = GateOptions(spike_ratio=HIGH_RATIO, use_lambda=True)
    return {
        "base": ("base", GateOptions()),
        f"guided {low}": ("guided", GateOptions(spike_ratio=LOW_RATIO)),
        MAIN: ("guided", GateOptions(spike_ratio=HIGH_RATIO)),
        "  lambda, t<W: tau": ("guided", replace(with_lambda, warmup="tau")),
        "  lambda, t<W: partial": ("guided", replace(with_lambda, warmup="partial")),
        f"entropy {high}": ("entropy", GateOptions(spike_ratio=HIGH_RATIO)),
        "entropy same rho": ("entropy", alike),
        "random same rho": ("random", alike),
        "matched same rho": ("matched", alike),
        "early same rho": ("early", alike),
        f"random {budget}": ("random", GateOptions(budget=CONTROL_BUDGET)),
        f"early-only {budget}": ("early", GateOptions(budget=CONTROL_BUDGET, spike_ratio=HIGH_RATIO)),
        "reasoning": ("reasoning", GateOptions()),
    }


def sampled_rows() -> dict[str, tuple[str, GateOptions]]:
    """The sampled rows: those that the claim rests on."""
    rows = greedy_rows()
    return {label: rows[label] for label in rows if "lambda" not in label and f"r={LOW_RATIO:.2f}" not in label}


async def run_demo(session: PairSession, store: Store, size: DemoSize, track: Callable[[str], OnProgress]) -> DemoRuns:
    """Run everything.

    Args:
        session: on the bundled pair.
        store: open for writing.
        size: how much to do.
        track: gives the progress callback of a labelled run.
    """
    runs = DemoRuns()

    async def run(label: str, settings: RunSettings) -> str:
        record = await run_program(session, store, settings, on_progress=track(label))
        return record.run_id

    runs.diagnose = await run("diagnose", RunSettings("diagnose", "world:calibration", size.calibration_problems, k=0))
    for metric, ratio in (("ce", LOW_RATIO), ("ce", HIGH_RATIO), ("entropy_base", HIGH_RATIO)):
        calibrate_on_run(store, runs.diagnose, metric=metric, spike_ratio=ratio)
    for label, (program, gate) in greedy_rows().items():
        gate = _following(gate, runs.greedy)
        runs.greedy[label] = await run(label, RunSettings(program, "world:heldout", size.problems, k=0, gate=gate))
    for label, (program, gate) in sampled_rows().items():
        gate = _following(gate, runs.sampled)
        settings = RunSettings(
            program, "world:heldout", size.sampled_problems, size.samples, k=0, temperature=TEMPERATURE, gate=gate
        )
        runs.sampled[label] = await run(f"{label}, T={TEMPERATURE:g}", settings)
    return runs


def _following(gate: GateOptions, runs: Mapping[str, str]) -> GateOptions:
    """The options with the run in place of its label."""
    return gate if gate.like is None else replace(gate, like=runs[gate.like])
