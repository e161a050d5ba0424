"""A synthetic store of many short samples and one long one, with their lists: the ground of the explorer's measurements.

python benchmarks/explorer_store.py 100000
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import synthetic_store

from rrti_sgl.db.store import Store
from rrti_sgl.records import ProblemRecord, SampleTrace

BUILD = Path("build") / "explorer"
BATCH = 1000
K = 10
LONG_RUN, LONG = "long", 8000  # of one sample of so many tokens


def build(n_samples: int, mean_length: int = 64) -> Path:
    """A store of about so many samples in six runs on the same problems; made once."""
    path = BUILD / f"{n_samples}.duckdb"
    done = path.with_suffix(".complete")
    if done.exists():
        return path
    path.unlink(missing_ok=True)
    rng = np.random.default_rng(0)
    each = 8
    problems = [f"p{i:05d}" for i in range(max(1, n_samples // len(synthetic_store.PLANS) // each))]
    hardness = rng.lognormal(0, 0.25, len(problems))
    with Store.open(path) as store:
        store.add_problems([ProblemRecord(name, "synthetic", f"Question {name}?", "1") for name in problems])
        for plan in synthetic_store.PLANS:
            tau = 1.2 if plan.rate is None else float(np.quantile(rng.gamma(2, 0.8, 10_000) + 0.5, 1 - 4 * plan.rate))
            store.begin_run(synthetic_store.run_record(plan, tau, each, len(problems)))
            batch: list[SampleTrace] = []
            for number, name in enumerate(problems):
                for index in range(each):
                    length = int(np.clip(rng.lognormal(np.log(mean_length) - 0.18, 0.6), 8, 400))
                    made = synthetic_store.trace(plan, name, index, length, float(hardness[number]), tau, rng)
                    batch.append(_with_lists(made, rng))
                    if len(batch) == BATCH:
                        store.write_samples(batch)
                        batch = []
            store.write_samples(batch)
            store.finish_run(plan.run_id, "finished")
        plan = replace(next(plan for plan in synthetic_store.PLANS if plan.program == "guided"), run_id=LONG_RUN)
        tau = float(np.quantile(rng.gamma(2, 0.8, 10_000) + 0.5, 0.5))
        store.begin_run(synthetic_store.run_record(plan, tau, 1, 1))
        store.write_samples([_with_lists(synthetic_store.trace(plan, problems[0], 0, LONG, 1.0, tau, rng), rng)])
        store.finish_run(LONG_RUN, "finished")
    done.touch()
    return path


def _with_lists(made: SampleTrace, rng: np.random.Generator) -> SampleTrace:
    """The sample with text, and with both models' lists where they were asked."""
    n, words = made.sample.n_tokens, len(synthetic_store.WORDS)
    first = made.tokens.token_id[:, None]
    base = np.concatenate([first, (first + 1 + rng.permutation(words - 1)[: K - 1]) % words], axis=1).astype(np.int32)
    reasoning = np.roll(base, 1, axis=1)
    logprobs = -np.sort(rng.gamma(2, 1.5, (n, K)), axis=1).astype(np.float32)
    columns = {}
    if made.tokens.base_token_id[0] >= 0:
        columns |= {"base_topk_ids": base, "base_topk_logprobs": logprobs}
    if not np.isnan(made.tokens.score[0]) or made.sample.run_id == "reasoning":
        columns |= {"reasoning_topk_ids": reasoning, "reasoning_topk_logprobs": logprobs}
    return SampleTrace(
        replace(made.sample, text="".join(made.tokens.token_text)), replace(made.tokens, **columns), made.score_metric
    )


if __name__ == "__main__":
    print(build(int(sys.argv[1])))
