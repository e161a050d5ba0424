"""The whole way on real servers: programs into a store, and the store against independent computations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.registry import PROGRAMS
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.stored.calibrate import calibrate_on_run
from rrti_sgl.records import RunRecord
from rrti_sgl.science.gates import ThresholdRule, replay
from rrti_sgl.serving.server import ServedPair
from rrti_sgl.tinypair.bundle import bundled_pair

pytestmark = pytest.mark.server
N = 30
SPIKE_RATIO = 0.08
_FOLLOWED = {"matched": "guided", "deferral": "guided"}


class Runs:
    """A store with every program run once over a few problems, k = the whole vocabulary."""

    def __init__(self, store: Store, served: ServedPair) -> None:
        self.store, self._served = store, served
        diagnose = self.run(RunSettings("diagnose", "world:calibration", 60, k=0))
        self.calibrations = {
            metric: calibrate_on_run(store, diagnose.run_id, metric=metric, spike_ratio=SPIKE_RATIO)
            for metric in ("ce", "entropy_base")
        }
        self.by_program = {"diagnose": diagnose} | {
            name: self.run(RunSettings(name, "world:heldout", N, k=0, gate=GateOptions(like=_FOLLOWED.get(name))))
            for name in PROGRAMS
            if name != "diagnose"
        }

    def run(self, settings: RunSettings) -> RunRecord:
        async def go() -> RunRecord:
            urls = (self._served.base.url, self._served.reasoning.url)
            async with open_session(*urls, Concurrency(32, 32)) as session:
                return await run_program(session, self.store, settings)

        return asyncio.run(go())

    def rows(self, query: str, **params: Any) -> list[dict[str, Any]]:
        return self.store.sql(query, params).to_pylist()


@pytest.fixture(scope="module")
def runs(served_pair: ServedPair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with Store.open(tmp_path_factory.mktemp("store") / "traces.duckdb", precision="exact") as store:
        yield Runs(store, served_pair)


def test_tokens_hold_a_row_for_every_generated_token(runs: Runs) -> None:
    found = runs.rows(
        """
        SELECT samples.run_id, samples.sample_id, n_tokens, n_takeovers,
               count(*) AS rows, max(position) AS last, count(*) FILTER (source = 'reasoning') AS taken
        FROM samples JOIN tokens USING (run_id, sample_id) GROUP BY ALL
        """
    )
    assert len(found) >= 60 + (len(PROGRAMS) - 1) * N  # other tests of the module make more
    for row in found:
        assert row["rows"] == row["n_tokens"] == row["last"] + 1
        assert row["taken"] == row["n_takeovers"]


def test_the_gate_recomputed_from_stored_columns_gives_fired(runs: Runs) -> None:
    """In SQL, as a user would: from the run's thresholds and the token's score and local mean."""
    found = runs.rows(
        """
        SELECT count(*) AS n, count(*) FILTER (fired) AS n_fired,
               count(*) FILTER (fired IS DISTINCT FROM coalesce(
                   score > tau AND (lambda_ IS NULL OR position < "window" OR score > lambda_ * local_mean), false)) AS wrong
        FROM tokens JOIN runs USING (run_id)
        """
    )
    assert found[0]["wrong"] == 0
    assert found[0]["n_fired"] > 100


@pytest.mark.parametrize("warmup", ["tau", "partial", "never"])
def test_the_lambda_gate_replays_offline(runs: Runs, warmup: Any) -> None:
    gate = GateOptions(use_lambda=True, lambda_=1.5, window=6, warmup=warmup)
    run = runs.run(RunSettings("guided", "world:heldout", 10, k=0, gate=gate))
    rule = ThresholdRule(run.tau or 0.0, run.lambda_, run.window or 0, warmup)
    assert run.lambda_ == 1.5
    samples = runs.rows("SELECT sample_id FROM samples WHERE run_id = $run", run=run.run_id)
    for sample in samples:
        rows = runs.rows(
            "SELECT score, fired, local_mean FROM tokens WHERE run_id = $run AND sample_id = $sample ORDER BY position",
            run=run.run_id,
            sample=sample["sample_id"],
        )
        fired, local_mean = replay(np.asarray([row["score"] for row in rows]), rule)
        np.testing.assert_array_equal(fired, [row["fired"] for row in rows])
        np.testing.assert_allclose(local_mean, np.asarray([row["local_mean"] for row in rows], dtype=np.float64))


def test_stored_scores_equal_an_independent_computation(runs: Runs) -> None:
    """Every metric again from the stored lists with scipy, which knows nothing of ours."""
    from scipy.special import rel_entr

    run = runs.by_program["guided"]
    for row in runs.rows("SELECT * FROM tokens WHERE run_id = $run LIMIT 300", run=run.run_id):
        p, q = (np.zeros(run.vocab_size) for _ in range(2))
        p[row["base_topk_ids"]] = np.exp(np.asarray(row["base_topk_logprobs"], dtype=np.float64))
        q[row["reasoning_topk_ids"]] = np.exp(np.asarray(row["reasoning_topk_logprobs"], dtype=np.float64))
        middle = (p + q) / 2
        entropy = -np.sum(p * np.log(p, where=p > 0, out=np.zeros_like(p)))
        expected = {
            "reverse_kl": rel_entr(p, q).sum(),
            "kl": rel_entr(q, p).sum(),
            "js": (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2,
            "tv": np.abs(p - q).sum() / 2,
            "entropy_base": entropy,
            "ce": rel_entr(p, q).sum() + entropy,
        }
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, abs=2e-5, rel=1e-5), name
        assert row["score"] == row["ce"]
        assert p.sum() + row["base_tail_mass"] == pytest.approx(1.0, abs=1e-5)


def test_decoding_equals_the_plain_torch_reference(runs: Runs) -> None:
    """Token for token against lockstep decoding in transformers, which knows nothing of servers or drafts."""
    from pair_training import evaluation
    from pair_training.model import load_model
    from rrti_sgl.problems import load_problems
    from rrti_sgl.tinypair.tokenizer import encode

    problems = load_problems("world:heldout", limit=N).problems
    folders = bundled_pair()
    base, reasoning = load_model(folders.base), load_model(folders.reasoning)
    gate = evaluation.threshold_gate(runs.calibrations["ce"].tau)
    expected = evaluation.guided_rollouts(base, reasoning, [encode(p.question) for p in problems], gate)
    stored = runs.rows(
        "SELECT problem_id, list(token_id ORDER BY position) AS ids, list(fired ORDER BY position) AS fired "
        "FROM tokens JOIN samples USING (run_id, sample_id) WHERE run_id = $run GROUP BY ALL",
        run=runs.by_program["guided"].run_id,
    )
    by_problem = {row["problem_id"]: row for row in stored}
    for problem, rollout in zip(problems, expected, strict=True):
        assert by_problem[problem.problem_id]["ids"] == rollout.ids
        assert by_problem[problem.problem_id]["fired"] == rollout.takeover


def test_takeovers_are_the_reasoning_models_choice(runs: Runs) -> None:
    for program in ("guided", "entropy", "random", "early"):
        found = runs.rows("SELECT * FROM tokens WHERE run_id = $run AND fired", run=runs.by_program[program].run_id)
        assert found, program
        for row in found:
            assert row["source"] == "reasoning"
            assert row["token_id"] == row["reasoning_token_id"] == row["reasoning_topk_ids"][0]
            assert row["base_token_id"] == row["base_topk_ids"][0]


def test_planted_positions_are_marked(runs: Runs) -> None:
    [row] = runs.rows(
        "SELECT count(*) FILTER (planted) AS planted, count(*) FILTER (planted IS NULL) AS unknown, count(*) AS n "
        "FROM tokens WHERE run_id = $run",
        run=runs.by_program["diagnose"].run_id,
    )
    assert row["unknown"] == 0
    assert 60 <= row["planted"] < row["n"] / 2


def test_radix_cache_serves_most_of_the_prefixes(runs: Runs) -> None:
    [row] = runs.rows(
        "SELECT sum(base_cached_tokens) / sum(base_prompt_tokens) AS base, "
        "sum(reasoning_cached_tokens) / sum(reasoning_prompt_tokens) AS reasoning FROM samples WHERE run_id = $run",
        run=runs.by_program["guided"].run_id,
    )
    assert row["base"] > 0.5
    assert row["reasoning"] > 0.5


def test_further_samples_of_a_problem_do_not_prefill_its_prompt_again(runs: Runs) -> None:
    run = runs.run(RunSettings("base", "world:heldout", 40, samples=3, k=0, temperature=1.0))
    recomputed = runs.rows(
        "SELECT sample_index, base_prompt_tokens - base_cached_tokens AS n FROM samples WHERE run_id = $run", run=run.run_id
    )
    assert all(row["n"] <= 1 for row in recomputed if row["sample_index"] > 0)


def test_sampled_runs_give_different_samples_of_one_problem(runs: Runs) -> None:
    run = runs.run(RunSettings("guided", "world:heldout", 4, samples=4, k=0, temperature=1.0))
    found = runs.rows(
        "SELECT problem_id, count(DISTINCT text) AS texts FROM samples WHERE run_id = $run GROUP BY 1", run=run.run_id
    )
    assert max(row["texts"] for row in found) > 1


def test_small_k_is_a_lower_bound_with_its_tail_stored(runs: Runs, tmp_path: Path) -> None:
    run = runs.run(RunSettings("diagnose", "world:heldout", 20, k=4))
    full = runs.run(RunSettings("diagnose", "world:heldout", 20, k=0))
    both = runs.rows(
        """
        SELECT small.ce AS small, exact.ce AS exact, small.base_tail_mass AS tail
        FROM tokens AS small JOIN samples AS s USING (run_id, sample_id)
        JOIN samples AS e ON e.run_id = $full AND e.problem_id = s.problem_id
        JOIN tokens AS exact ON exact.run_id = $full AND exact.sample_id = e.sample_id AND exact.position = small.position
        WHERE small.run_id = $small
        """,
        small=run.run_id,
        full=full.run_id,
    )
    assert run.score_kind == "topk"
    assert full.score_kind == "full"
    assert all(row["small"] <= row["exact"] + 1e-3 for row in both)
    assert max(row["tail"] for row in both) > 1e-4
