"""The records of a round say of every kept token what was kept, request by request."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from rrti_sgl.fused.acceptance import Guidance, Kept
from rrti_sgl.fused.protocol import KEY, Steering, decode
from rrti_sgl.fused.tracing import Round, tell
from rrti_sgl.science.gates import NeverGate
from rrti_sgl.science.metrics import METRICS

VOCAB = 9
LENGTHS = [3, 2, 4]  # drafted by three requests; the second is not traced
BEGINS = [0, 3, 5]


def a_round() -> Round:
    torch.manual_seed(0)
    base, reasoning = torch.log_softmax(torch.randn((2, 9, VOCAB)), -1)
    numbers = np.random.default_rng(0)
    return Round(
        base, reasoning, numbers.random((9, len(METRICS))), numbers.random(9), np.arange(9) % VOCAB,
        (np.arange(9) + 4) % VOCAB, BEGINS, LENGTHS,
    )  # fmt: skip


def request(k: int, cached: int) -> tuple[SimpleNamespace, Guidance]:
    guidance = Guidance(Steering("never", trace=k), NeverGate("ce"))
    guidance.base_prompt_tokens, guidance.base_cached_tokens = 11, cached
    return SimpleNamespace(customized_info=None), guidance


def test_every_request_gets_the_records_of_its_kept_tokens() -> None:
    round_ = a_round()
    (one, its), (other, their) = request(4, 5), request(2, 7)
    fired = np.array([False, True, False])
    tell(
        [
            (one, its, Kept(2, fired, took=True), 0),
            (other, their, Kept(4, np.zeros(4, np.bool_), took=False), 2),
        ],
        round_,
    )
    found, others = decode(one.customized_info[KEY], 4), decode(other.customized_info[KEY], 2)
    assert found["fired"].tolist() == [0, 1]
    assert found["kept"].tolist() == [1, 1]
    assert found["drafted"].tolist() == [3, 0]
    assert found["base_token"].tolist() == [0, 1]
    assert found["reasoning_token"].tolist() == [-1, 5]
    assert found["base_cached_tokens"].tolist() == [5, 5]
    np.testing.assert_array_equal(found["score"], round_.scores[:2])
    np.testing.assert_array_equal(found["base_logprob"], round_.base[[0, 1], [0, 5]])  # of the emitted tokens
    np.testing.assert_array_equal(found["reasoning_logprob"], round_.reasoning[[0, 1], [0, 5]])
    np.testing.assert_allclose(found["metrics"], round_.metrics[:2], rtol=1e-6)
    assert others["drafted"].tolist() == [4, 0, 0, 0]
    assert others["base_token"].tolist() == [5, 6, 7, 8]
    for side, logprobs in (("base", round_.base), ("reasoning", round_.reasoning)):
        values, ids = logprobs[5:].topk(2, -1)
        np.testing.assert_array_equal(others[f"{side}_ids"], ids)
        np.testing.assert_array_equal(others[f"{side}_logprobs"], values)


def test_a_relayed_token_has_no_score_and_rounds_follow_each_other() -> None:
    one, its = request(1, 0)
    for _ in range(2):
        tell([(one, its, Kept(1, np.zeros(2, np.bool_), took=True, relayed=True), 1)], a_round())
    found = decode(one.customized_info[KEY], 1)
    assert found["kept"].tolist() == [0, 0]
    assert found["reasoning_token"].tolist() == [7, 7]
    assert np.isnan(found["score"]).all()
    assert found["drafted"].tolist() == [2, 2]
