"""A synthetic trace store of any size, and the same rows as Parquet: the ground of the statistics benchmark.

Scores are heavy-tailed (8 % spikes, denser at the beginning), correlated with the entropy, and larger on some problems than
on others; planning words gather at spikes; the gates of the guided runs fire where the score exceeds their tau; answers are
likelier right where spikes are few. Top-k lists are NULL. Samples go through the store's own write path.

    python benchmarks/synthetic_store.py 1000000
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rrti_sgl.db.store import Store
from rrti_sgl.records import ProblemRecord, RunRecord, SampleRecord, SampleTrace, TokenColumns, sample_key

BUILD = Path("build") / "statistics"
BATCH_ROWS = 120_000
MEAN_LENGTH = 400
START = datetime(2026, 1, 1, tzinfo=UTC)
WORDS = np.array([f" word{i}" for i in range(2000)], dtype=object)
PLANNING_TAGS = np.array(["next_step", "conclusion", "condition", "revision", "decomposition", "check"], dtype=object)
PLANNING_WORDS = np.array([" then", " therefore", " if", " wait", " first", " check"], dtype=object)


@dataclass(frozen=True)
class Plan:
    """One run: its share of all tokens, its takeover rate (None: no divergence is scored), and how often it is right."""

    run_id: str
    program: str
    share: float
    rate: float | None
    skill: float


PLANS = (
    Plan("diagnose", "diagnose", 0.4, 0.0, -1.0),
    Plan("guided-low", "guided", 0.15, 0.04, 0.2),
    Plan("guided-high", "guided", 0.15, 0.13, 0.9),
    Plan("base", "base", 0.1, None, -1.0),
    Plan("random", "random", 0.1, None, -0.8),
    Plan("reasoning", "reasoning", 0.1, None, 1.2),
)


def build(n_tokens: int, within: Path = BUILD, *, parquet: bool = True) -> Path:
    """The folder of a store of about so many tokens, `traces.duckdb` and, unless it is large, `*.parquet`; made once."""
    folder = within / f"{n_tokens}"
    done = folder / "complete"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        rng = np.random.default_rng(0)
        problems = [f"p{i:05d}" for i in range(max(50, n_tokens // 10_000))]
        hardness = rng.lognormal(0, 0.25, len(problems))
        with Store.open(folder / "traces.duckdb") as store:
            store.add_problems([ProblemRecord(name, "synthetic", f"Question {name}?", "1") for name in problems])
            for plan in PLANS:
                write_run(store, plan, round(plan.share * n_tokens), problems, hardness, rng)
        if parquet:
            export(folder)
        done.touch()
    return folder


def write_run(
    store: Store, plan: Plan, n_tokens: int, problems: list[str], hardness: np.ndarray, rng: np.random.Generator
) -> None:
    """One run, in batches of whole samples."""
    samples_each = max(1, round(n_tokens / len(problems) / MEAN_LENGTH))
    tau = float(np.quantile(scores(rng, np.full(200_000, 1.0), rng.random(200_000))[0], 1 - (plan.rate or 0.5)))
    store.begin_run(run_record(plan, tau, samples_each, len(problems)))
    batch: list[SampleTrace] = []
    rows = 0
    for number, name in enumerate(problems):
        for index in range(samples_each):
            length = int(np.clip(rng.lognormal(np.log(MEAN_LENGTH) - 0.18, 0.6), 20, 2000))
            batch.append(trace(plan, name, index, length, float(hardness[number]), tau, rng))
            rows += length
            if rows >= BATCH_ROWS:
                store.write_samples(batch)
                batch, rows = [], 0
    store.write_samples(batch)
    store.finish_run(plan.run_id, "finished")


def scores(rng: np.random.Generator, hardness: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropies of tokens at normalised positions u, and which of them are spikes."""
    spikes = rng.random(len(u)) < 0.05 + 0.12 * np.exp(-u / 0.1)
    calm = np.exp(rng.normal(-5, 1.6, len(u)))
    return hardness * np.where(spikes, 0.5 + rng.gamma(2, 0.8, len(u)), calm), spikes


def trace(
    plan: Plan, problem: str, index: int, length: int, hardness: float, tau: float, rng: np.random.Generator
) -> SampleTrace:
    """One sample with its tokens."""
    ce, spikes = scores(rng, np.full(length, hardness), np.arange(length) / length)
    entropy = ce * rng.uniform(0.05, 0.95, length)
    reverse_kl = ce - entropy
    scored = plan.rate is not None
    fired = {"reasoning": np.ones(length, bool), "random": rng.random(length) < 0.25}.get(
        plan.program, np.zeros(length, bool)
    )
    fired = ce > tau if plan.program == "guided" else fired
    base_ids = rng.integers(0, len(WORDS), length, dtype=np.int32)
    changed = fired & (rng.random(length) < 0.35)
    ids = np.where(changed, (base_ids + 7) % len(WORDS), base_ids).astype(np.int32)
    planning = rng.random(length) < np.where(spikes, 0.14, 0.012)
    kinds = rng.integers(0, len(PLANNING_TAGS), length)
    missing = np.full(length, np.nan)
    asked = plan.program != "reasoning"
    no_ids, no_logprobs = np.full((length, 0), -1, dtype=np.int32), np.full((length, 0), np.nan, dtype=np.float32)
    tokens = TokenColumns(
        token_id=ids,
        token_text=np.where(planning, PLANNING_WORDS[kinds], WORDS[ids]),  # type: ignore[arg-type]
        source=np.where(fired, "reasoning", "base").tolist(),
        base_token_id=base_ids if asked else np.full(length, -1, dtype=np.int32),
        base_token_text=WORDS[base_ids] if asked else [None] * length,  # type: ignore[arg-type]
        reasoning_token_id=np.where(fired, ids, -1).astype(np.int32),
        base_logprob=-entropy if asked else missing,
        reasoning_logprob=-ce,
        score=ce if scored else missing,
        local_mean=missing,
        fired=fired,
        metrics={
            "ce": ce if scored else missing,
            "kl": reverse_kl * 1.2 if scored else missing,
            "reverse_kl": reverse_kl if scored else missing,
            "js": np.log(2) * -np.expm1(-reverse_kl) if scored else missing,
            "tv": -np.expm1(-reverse_kl / 1.5) if scored else missing,
            "entropy_base": entropy if asked else missing,
            "entropy_reasoning": 0.7 * entropy if scored else missing,
        },
        base_tail_mass=1e-3 * entropy if asked else missing,
        reasoning_tail_mass=5e-4 * entropy if scored else missing,
        planning_tag=np.where(planning, PLANNING_TAGS[kinds], None),  # type: ignore[arg-type]
        planted=(spikes & (rng.random(length) < 0.7)).astype(np.int32) if scored else np.full(length, -1, dtype=np.int32),
        base_topk_ids=no_ids,
        base_topk_logprobs=no_logprobs,
        reasoning_topk_ids=no_ids,
        reasoning_topk_logprobs=no_logprobs,
    )
    right = rng.random() < 1 / (1 + np.exp(-(plan.skill - 4 * (hardness - 1) - 12 * (spikes.mean() - 0.062))))
    return SampleTrace(sample_record(plan, problem, index, length, fired, changed, bool(right)), tokens, "ce")


def sample_record(
    plan: Plan, problem: str, index: int, length: int, fired: np.ndarray, changed: np.ndarray, right: bool
) -> SampleRecord:
    """What is said of a sample beside its tokens; calls and times follow from its length."""
    return SampleRecord(
        run_id=plan.run_id, sample_id=sample_key(plan.run_id, problem, index), problem_id=problem, sample_index=index,
        base_prompt="Question", reasoning_prompt="Question", text="", n_tokens=length, n_takeovers=int(fired.sum()),
        n_changed=int(changed.sum()), finish_reason="stop", answer="1" if right else "2", correct=right, started_at=START,
        wall_ms=2.0 * length, base_calls=length // 12 + 1, reasoning_calls=length // 12 + 1, base_ms=1.0 * length,
        reasoning_ms=0.5 * length, base_prompt_tokens=40 * length, base_cached_tokens=36 * length,
        reasoning_prompt_tokens=40 * length, reasoning_cached_tokens=30 * length, tokens_drafted=length + length // 5,
        tokens_discarded=length // 5, tokens_scored=length + length // 5,
    )  # fmt: skip


def run_record(plan: Plan, tau: float, samples_each: int, n_problems: int) -> RunRecord:
    """A run of program `plan.program` with its gate."""
    guided, scored = plan.program == "guided", plan.rate is not None
    gate: dict[str, Any] = {"tau": tau} if guided else {}
    gates = {"guided": "divergence", "random": "random", "reasoning": "always"}
    return RunRecord(
        run_id=plan.run_id, program=plan.program, status="running", created_at=START, config={"plan": plan.run_id},
        config_hash=plan.run_id, base_model="base", reasoning_model="reasoning", tokenizer_hash="synthetic",
        vocab_size=len(WORDS), problem_set="synthetic", n_problems=n_problems, samples_per_problem=samples_each, k=20,
        score_kind="topk", metric="ce" if scored else None, gate=gates.get(plan.program, "never"), gate_params=gate,
        tau=tau if guided else None, lambda_=None, window=16 if guided else None, warmup="tau" if guided else None,
        calibration_id=None, tagger="lexical-v1", grader="synthetic", temperature=0.7, top_p=1.0, max_new_tokens=2000,
        seed=0, package_version="benchmark", base_server={}, reasoning_server={},
    )  # fmt: skip


def export(folder: Path) -> None:
    """Every table as Parquet, the tokens one file a run and without the top-k lists."""
    with Store.open_readonly(folder / "traces.duckdb") as store:
        for name in ("runs", "samples", "problems"):
            pq.write_table(store.sql(f"FROM {name}"), folder / f"{name}.parquet", compression="zstd")
        columns = (
            "run_id, sample_id, position, token_id, token_text, base_token_id, base_token_text, fired, score, ce, kl, js, tv"
        )
        columns += ", reverse_kl, entropy_base, entropy_reasoning, planning_tag, planted"
        for plan in PLANS:
            writer: Any = None
            for part in _parts(store, plan.run_id, columns):
                writer = writer or pq.ParquetWriter(
                    folder / f"tokens-{plan.run_id}.parquet", part.schema, compression="zstd"
                )
                writer.write_table(part)
            writer.close()


def _parts(store: Store, run_id: str, columns: str) -> Iterator[Any]:
    """The tokens of a run in 16 parts by the first digit of the sample."""
    query = f"""
        SELECT {columns} FROM tokens
        WHERE run_id = $run AND starts_with(sample_id, $digit) ORDER BY sample_id, position
    """
    for digit in "0123456789abcdef":
        yield store.sql(query, {"run": run_id, "digit": digit})


if __name__ == "__main__":
    print(build(int(sys.argv[1])))
