"""Reading SGLang's answers: the compact format, the nested one, and what is no answer at all."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rrti_sgl.engines.wire import GenerateRequest, Sampling, parse, payload
from rrti_sgl.errors import EndpointError

VOCAB_SIZE = 9
LOGPROBS = np.log(np.asarray([[0.6, 0.3], [0.5, 0.4], [0.7, 0.2]], dtype=np.float32))
IDS = np.asarray([[4, 1], [2, 3], [8, 0]], dtype=np.int32)


def flat(side: str, rows: slice) -> dict[str, Any]:
    logprobs, ids = LOGPROBS[rows], IDS[rows]
    return {
        f"{side}_top_logprobs_val_flat_b64": base64.b64encode(logprobs.tobytes()).decode(),
        f"{side}_top_logprobs_idx_flat_b64": base64.b64encode(ids.tobytes()).decode(),
        f"{side}_top_logprobs_shape": list(logprobs.shape),
    }


def nested(side: str, rows: slice, *, null_prefix: bool = False) -> dict[str, Any]:
    listed = [
        [[float(v), int(i), None] for v, i in zip(vs, ids, strict=True)]
        for vs, ids in zip(LOGPROBS[rows], IDS[rows], strict=True)
    ]
    return {f"{side}_top_logprobs": [None, *listed] if null_prefix else listed}


def answer(**meta: Any) -> dict[str, Any]:
    default = {
        "finish_reason": {"type": "stop", "matched": 1},
        "prompt_tokens": 4,
        "cached_tokens": 2,
        "output_token_logprobs": [[-0.5, 4, None]],
        "input_token_logprobs": [[None, 7, None], [-1.5, 2, None], [-2.5, 8, None]],
    }
    return {"output_ids": [4], "meta_info": default | meta}


REQUEST = GenerateRequest(input_ids=(5, 7, 2, 8), max_new_tokens=1, k=2, score_from=2)
LISTS = flat("output", slice(0, 1)) | flat("input", slice(1, 3))


@pytest.mark.parametrize(
    "meta",
    [
        flat("output", slice(0, 1)) | flat("input", slice(1, 3)),
        nested("output", slice(0, 1)) | nested("input", slice(1, 3), null_prefix=True),
    ],
    ids=["flat", "nested"],
)
def test_both_formats_read_alike(meta: dict[str, Any]) -> None:
    generation = parse(REQUEST, answer(**meta), VOCAB_SIZE)
    np.testing.assert_array_equal(generation.output.ids, IDS[:1])
    np.testing.assert_array_equal(generation.input.ids, IDS[1:])
    np.testing.assert_allclose(generation.input.logprobs, LOGPROBS[1:], rtol=1e-6)
    np.testing.assert_array_equal(generation.input_logprobs, [-1.5, -2.5])
    assert (generation.stopped, generation.prompt_tokens, generation.cached_tokens) == (True, 4, 2)


def test_a_clamped_log_of_zero_becomes_minus_infinity() -> None:
    meta = flat("output", slice(0, 1)) | flat("input", slice(1, 3))
    smallest = np.asarray([[-0.1, np.finfo(np.float32).min]], dtype=np.float32)
    meta["output_top_logprobs_val_flat_b64"] = base64.b64encode(smallest.tobytes()).decode()
    generation = parse(REQUEST, answer(**meta), VOCAB_SIZE)
    assert generation.output.logprobs[0, 1] == -np.inf


@pytest.mark.parametrize(
    ("broken", "match"),
    [
        ({"error": "x"}, "cannot be read"),
        (answer(finish_reason={"type": "abort", "message": "out of memory"}), "out of memory"),
        (answer(**flat("output", slice(0, 1)), **flat("input", slice(1, 2))), "1 scored positions for 2"),
        (answer(**flat("output", slice(0, 1))), "cannot be read"),
        (answer(**LISTS, output_token_logprobs=None), "0 log-probabilities of 1 tokens"),
        (answer(**LISTS, input_token_logprobs=[[-1.5, 2, None]]), "1 log-probabilities of 2 tokens"),
        (answer(**LISTS, output_token_ids_logprobs=[]), "named tokens at 0 of 1 positions"),
    ],
    ids=["no answer", "aborted", "too few positions", "no scores", "no drawn ones", "too few scored ones", "no named ones"],
)
def test_what_is_missing_is_an_error(broken: dict[str, Any], match: str) -> None:
    with pytest.raises(EndpointError, match=match):
        parse(replace(REQUEST, logprob_ids=(4,)) if "named" in match else REQUEST, broken, VOCAB_SIZE)


def test_payload_asks_one_position_early_and_only_for_what_is_needed() -> None:
    plain = GenerateRequest(input_ids=(1, 2), max_new_tokens=8, k=0, sampling=Sampling(0.5, 0.9), stop_token_ids=(1,))
    body = payload([REQUEST, plain], ["a", "b"])
    assert body["logprob_start_len"] == [1, -1]
    assert body["return_logprob"] == [True, False]
    assert body["top_logprobs_num"] == [2, 0]
    assert body["sampling_params"][1] == {
        "max_new_tokens": 8, "temperature": 0.5, "top_p": 0.9, "skip_special_tokens": False, "stop_token_ids": [1]
    }  # fmt: skip
    assert "token_ids_logprob" not in body


def test_a_seed_goes_with_what_is_drawn() -> None:
    def sent(temperature: float, seed: int | None) -> dict[str, Any]:
        request = GenerateRequest((1,), max_new_tokens=8, k=0, sampling=Sampling(temperature), seed=seed)
        params: dict[str, Any] = payload([request], ["a"])["sampling_params"][0]
        return params

    assert sent(0.5, 2**63 - 1)["sampling_seed"] == 2**63 - 1
    assert "sampling_seed" not in sent(0.0, 3)
    assert "sampling_seed" not in sent(0.5, None)
