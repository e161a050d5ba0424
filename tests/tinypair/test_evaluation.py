"""Reference decoding, gates and scoring, on small random models and the shipped pair."""

import numpy as np
import pytest
import torch
from transformers import Qwen3ForCausalLM

from pair_training.evaluation import (
    Rollout,
    calibrate,
    cross_entropy,
    early_gate,
    entropy,
    guided_rollouts,
    random_gate,
    realised_budget,
    score_rollouts,
    threshold_gate,
)
from pair_training.model import new_model
from pair_training.phenomena import area_under_roc
from rrti_sgl.tinypair import generate, prompt
from rrti_sgl.tinypair.tokenizer import EOS_ID, VOCABULARY, encode

PROMPTS = [encode(prompt(p)) for p in generate(0, "heldout", 12)]
LENGTH = 12


@pytest.fixture(scope="module")
def pair() -> tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]:
    torch.set_num_threads(1)
    models = new_model(1).eval(), new_model(2).eval()
    for model in models:
        with torch.no_grad():  # larger than fresh weights, so that the two are sharp and disagree clearly
            model.model.norm.weight.mul_(10.0)
            for name, weights in model.model.layers.named_parameters():
                if name.endswith("proj.weight"):
                    weights.mul_(6.0)
    return models


def decode_all(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM], gate: object, **options: object) -> list[Rollout]:
    return guided_rollouts(*pair, PROMPTS, gate, max_new_tokens=LENGTH, **options)


def one_by_one(model: Qwen3ForCausalLM, prompt_ids: list[int]) -> list[int]:
    """Greedy decoding without cache, padding or batch."""
    ids = list(prompt_ids)
    while len(ids) < len(prompt_ids) + LENGTH and (len(ids) == len(prompt_ids) or ids[-1] != EOS_ID):
        with torch.inference_mode():
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt_ids) :]


def test_batched_decoding_equals_decoding_one_by_one(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    rollouts = decode_all(pair, None, batch_size=5)
    assert [r.ids for r in rollouts] == [one_by_one(pair[0], p) for p in PROMPTS]


def test_a_gate_that_always_fires_is_the_reasoning_model(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    guided = decode_all(pair, threshold_gate(-1.0))
    alone = guided_rollouts(pair[1], None, PROMPTS, None, max_new_tokens=LENGTH)
    assert [r.ids for r in guided] == [r.ids for r in alone]
    assert realised_budget(guided) == 1.0


def test_a_gate_that_never_fires_is_the_base_model(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    rollouts = decode_all(pair, threshold_gate(float("inf")))
    assert [r.ids for r in rollouts] == [r.ids for r in decode_all(pair, None)]
    assert realised_budget(rollouts) == 0.0


def test_one_token_is_taken_over_at_the_gated_positions_alone(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    tau = calibrate(decode_all(pair, None), 0.4)
    rollouts = decode_all(pair, threshold_gate(tau))
    scored = score_rollouts(*pair, PROMPTS, [r.ids for r in rollouts])
    assert 0.0 < realised_budget(rollouts) < 1.0
    assert any(any(r.changed) for r in rollouts)
    for rollout, (base, reasoning) in zip(rollouts, scored, strict=True):
        scores = cross_entropy(torch.tensor(base), torch.tensor(reasoning)).numpy()
        np.testing.assert_allclose(rollout.cross_entropy, scores, atol=1e-3)
        np.testing.assert_allclose(rollout.base_entropy, entropy(torch.tensor(base)).numpy(), atol=1e-3)
        assert rollout.takeover == [score > tau for score in rollout.cross_entropy]
        chosen = np.where(rollout.takeover, reasoning.argmax(-1), base.argmax(-1))
        assert rollout.ids == chosen.tolist()
        assert rollout.changed == (chosen != base.argmax(-1)).tolist()


def test_sampling_is_seeded_and_follows_the_distribution(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    first, again, other = (decode_all(pair, None, temperature=1.0, seed=seed) for seed in (5, 5, 6))
    assert [r.ids for r in first] == [r.ids for r in again] != [r.ids for r in other]
    draws = guided_rollouts(pair[0], None, [PROMPTS[0]] * 2000, None, temperature=1.0, max_new_tokens=1)
    with torch.inference_mode():
        expected = torch.softmax(pair[0](input_ids=torch.tensor([PROMPTS[0]])).logits[0, -1], -1).numpy()
    observed = np.bincount([r.ids[0] for r in draws], minlength=len(VOCABULARY)) / 2000
    np.testing.assert_allclose(observed, expected, atol=5 * 0.5 / np.sqrt(2000))


def test_budget_of_the_controls(pair: tuple[Qwen3ForCausalLM, Qwen3ForCausalLM]) -> None:
    early = decode_all(pair, early_gate(0.25, [LENGTH] * len(PROMPTS)))
    assert all(r.takeover == [position < 3 for position in range(len(r.ids))] for r in early)
    random = guided_rollouts(*pair, PROMPTS * 20, random_gate(0.25, 240), max_new_tokens=LENGTH)
    assert realised_budget(random) == pytest.approx(0.25, abs=0.04)


def test_calibration_is_the_packages_over_all_tokens() -> None:
    """Between 2 and 3 an interpolated quantile would lie, and two of five scores above it."""
    rollouts = [Rollout(cross_entropy=[0.0, 1.0, 2.0]), Rollout(cross_entropy=[3.0, 4.0])]
    assert calibrate(rollouts, 0.3) == 3.0


def test_area_under_roc() -> None:
    assert area_under_roc(np.array([3.0, 1.0, 2.0]), np.array([True, False, True])) == 1.0
    assert area_under_roc(np.array([1.0, 1.0]), np.array([True, False])) == 0.5
