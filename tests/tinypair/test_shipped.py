"""The shipped pair: loads as it should, and does what its metrics and card state."""

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Qwen3ForCausalLM

from pair_training.card import load_metrics, measured_tables
from pair_training.evaluation import Rollout, calibrate, guided_rollouts, realised_budget, threshold_gate
from pair_training.model import load_model
from pair_training.training import TrainingConfig, verified_documents
from rrti_sgl.tinypair import (
    WorldProblem,
    bundled_pair,
    calibration_problems,
    equations,
    generate,
    grade,
    heldout_problems,
    prompt,
    split_of,
)
from rrti_sgl.tinypair.tokenizer import EOS_ID, VOCABULARY, decode, encode

ROOT = bundled_pair().base.parent
METRICS = load_metrics(ROOT / "metrics.json")
N = 250
FRESH_SEED = 11  # not among the seeds that the metrics were measured on


@pytest.fixture(scope="module")
def pair() -> tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]:
    torch.set_num_threads(1)
    folders = bundled_pair()
    return load_model(folders.base), load_model(folders.reasoning)


@pytest.fixture(scope="module")
def problems() -> list[WorldProblem]:
    return heldout_problems(N, seed=FRESH_SEED)


def prompts(problems: Sequence[WorldProblem]) -> list[list[int]]:
    return [encode(prompt(problem)) for problem in problems]


def accuracy(problems: Sequence[WorldProblem], rollouts: Sequence[Rollout]) -> float:
    return float(np.mean([grade(p, r.text)[1] for p, r in zip(problems, rollouts, strict=True)]))


def stated(name: str) -> object:
    value = METRICS["greedy"][name]["accuracy"]
    return pytest.approx(value, abs=4 * sqrt(value * (1 - value) / N))


def test_size_on_disk() -> None:
    assert sum(path.stat().st_size for path in ROOT.rglob("*") if path.is_file()) <= 10_000_000


@pytest.mark.parametrize("name", ["base", "reasoning"])
def test_folders_load_by_the_auto_classes(name: str) -> None:
    folder = ROOT / name
    assert AutoConfig.from_pretrained(folder).architectures == ["Qwen3ForCausalLM"]
    assert json.loads((folder / "generation_config.json").read_text())["eos_token_id"] == EOS_ID
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.eos_token_id == tokenizer.eos_token_id == EOS_ID
    assert model.config.vocab_size == len(tokenizer) == len(VOCABULARY)
    assert sum(weights.numel() for weights in model.parameters()) <= 1_200_000


def test_base_alone(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM], problems: list[WorldProblem]) -> None:
    rollouts = guided_rollouts(pair[0], None, prompts(problems), None)
    assert accuracy(problems, rollouts) == stated("base")
    held = [holds for rollout in rollouts for _, holds in equations(rollout.text)]
    assert np.mean(held) > 0.98
    assert all(rollout.ids[-1] == EOS_ID for rollout in rollouts)


def test_reasoning_alone(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM], problems: list[WorldProblem]) -> None:
    assert accuracy(problems, guided_rollouts(pair[1], None, prompts(problems), None)) == stated("reasoning")


def test_guided(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM], problems: list[WorldProblem]) -> None:
    ratio, tau = max((float(r), t) for r, t in METRICS["tau"].items() if float(r) < 0.1)
    name = f"guided r={ratio}"
    rollouts = guided_rollouts(*pair, prompts(problems), threshold_gate(tau))
    assert accuracy(problems, rollouts) == stated(name)
    assert realised_budget(rollouts) == pytest.approx(METRICS["greedy"][name]["rho"], abs=0.015)
    calibration = guided_rollouts(*pair, prompts(calibration_problems(120, seed=FRESH_SEED)), None)
    fired = np.mean([score > tau for rollout in calibration for score in rollout.cross_entropy])
    assert calibrate(calibration, ratio) > 0
    assert fired == pytest.approx(ratio, abs=0.02)


def test_problems_without_traps_are_easy_for_the_base_model(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    plain = list(generate(FRESH_SEED, "heldout", 100, trap_counts=(0,)))
    assert accuracy(plain, guided_rollouts(pair[0], None, prompts(plain), None)) > 0.88


def test_expert_iteration_keeps_right_train_solutions_alone(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    config = replace(TrainingConfig(), round_problems=20, round_samples=3, round_kept_per_problem=1)
    kept = list(verified_documents(pair[0], config, 0, random.Random(0)))
    answers = {p.question: p.answer for p in generate(1_000_000, "train", 20)}
    assert 3 <= len(kept) <= 20
    for document in kept:
        question = decode(document.ids[1 : document.prompt_length - 1])
        assert split_of(question) == "train"
        assert grade(answers[question], decode(document.ids[document.prompt_length :]))[1]


def test_the_model_card_states_the_metrics() -> None:
    card = Path(ROOT).parent / "MODEL_CARD.md"
    assert measured_tables(METRICS) in card.read_text()
