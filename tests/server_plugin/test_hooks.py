"""The hooks on stand-ins for SGLang's objects: rows go to the right positions, and no fault gets through."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.divergences import entropy
from rrti_sgl.server_plugin import hooks
from rrti_sgl.server_plugin.measuring import measure
from rrti_sgl.server_plugin.protocol import KEY, Question, read_answer

V = 11


class Request:
    """As much of SGLang's request as the hooks look at."""

    def __init__(self, custom_params: object, n: int, cached: int = 0, start: int | None = None) -> None:
        self.rid = "r"
        self.sampling_params = SimpleNamespace(custom_params=custom_params)
        self.customized_info: dict[str, Any] | None = None
        self.n, self.cached, self.start = n, cached, start  # tokens, of them cached, first wanted hidden state
        self.logits = torch.randn(n + 1, V, generator=torch.Generator().manual_seed(n)) * 4  # row t: of the token t
        self.done = True

    def finished(self) -> bool:
        return self.done


def asking(first: int, ids: np.ndarray) -> dict[str, Any]:
    return {KEY: Question(first, ids.astype(np.int32)).to_json()}


@pytest.fixture(autouse=True)
def _no_pass_left() -> Iterator[None]:
    yield
    assert hooks._current is None


def prefill(requests: list[Request], chunk: int = 1000) -> str:
    """One extend pass as SGLang runs it; `chunk` rows of logits at a time."""
    starts = [request.n - 1 if request.start is None else request.start for request in requests]
    metadata = SimpleNamespace(
        extend_return_logprob=any(request.start is not None for request in requests),
        extend_seq_lens_cpu=[request.n - request.cached for request in requests],
        extend_logprob_start_lens_cpu=[start - r.cached for start, r in zip(starts, requests, strict=True)],
    )
    rows = torch.cat([request.logits[start + 1 :] for start, request in zip(starts, requests, strict=True)])
    batch = SimpleNamespace(
        reqs=requests,
        prefix_lens=[request.cached for request in requests],
        forward_mode=SimpleNamespace(is_decode_or_idle=lambda: False),
    )

    def forward(worker: str, given: object) -> str:
        assert given is batch
        for part in rows.split(chunk):
            hooks.after_get_logits(part, "processor", "states", "head", metadata)
        return f"{worker} ran"

    answer: str = hooks.around_forward(forward, "worker", batch)
    for index, request in enumerate(requests):
        hooks.after_collect(None, "processor", index, request, None)
    return answer


def expected(request: Request, first: int, ids: np.ndarray) -> np.ndarray:
    full = Distributions.from_logits(request.logits[first : first + len(ids)].numpy())
    return np.column_stack([entropy(full).value, full.aligned_logprobs(ids)[0]])


@pytest.mark.parametrize("chunk", [1000, 1, 2, 3, 5])
def test_prompt_rows_are_those_of_the_named_tokens(chunk: int) -> None:
    ids = np.arange(12).reshape(4, 3) % V
    requests = [
        Request(None, 5, start=1),
        Request(asking(6, ids), 10, cached=3, start=5),
        Request({"other": 1}, 4),
        Request(asking(7, ids[:1]), 7, cached=6),  # the first output token
        Request(asking(4, ids), 8, cached=2, start=2),  # asks from later on than its log-probabilities
    ]
    assert prefill(requests, chunk) == "worker ran"
    for request, first, asked in ((requests[1], 6, ids), (requests[3], 7, ids[:1]), (requests[4], 4, ids)):
        assert request.customized_info is not None
        values = read_answer(request.customized_info).values[: len(asked)]
        np.testing.assert_allclose(values[:, [0, 2, 3, 4]], expected(request, first, asked), atol=1e-5)
    assert requests[0].customized_info is None
    assert requests[2].customized_info is None


def test_a_prompt_in_several_passes_is_put_together() -> None:
    ids = np.arange(18).reshape(6, 3) % V
    request = Request(asking(4, ids), 10, start=3)
    whole, request.done = request.logits, False
    request.n, request.logits = 6, whole[:7]
    prefill([request])
    assert request.customized_info is None
    request.done, request.n, request.cached, request.start, request.logits = True, 10, 6, 6, whole
    prefill([request])
    assert request.customized_info is not None
    np.testing.assert_allclose(
        read_answer(request.customized_info).values[:6, 0], expected(request, 4, ids)[:, 0], atol=1e-5
    )


def decode(request: Request, logits: torch.Tensor, length: int) -> None:
    batch = SimpleNamespace(reqs=[request], forward_mode=SimpleNamespace(is_decode_or_idle=lambda: True))
    output, forward = SimpleNamespace(next_token_logits=logits), SimpleNamespace(seq_lens=torch.tensor([length]))

    def run(worker: str, given: object) -> object:
        return hooks.around_sample(lambda *args: args, "runner", output, forward)

    assert hooks.around_forward(run, "worker", batch) == ("runner", output, forward)
    hooks.after_collect(None, "processor", 0, request, output)


def test_output_tokens_follow_the_prompt() -> None:
    request = Request(asking(5, np.asarray([[3, 9]])), 5)
    request.done = False
    prefill([request])
    later = torch.randn(2, V)
    decode(request, later[:1], 6)
    request.done = True
    decode(request, later[1:], 7)
    assert request.customized_info is not None
    values = read_answer(request.customized_info).values
    full = Distributions.from_logits(torch.cat([request.logits[5:], later]).numpy())
    np.testing.assert_allclose(values[:, 0], entropy(full).value, atol=1e-5)
    np.testing.assert_allclose(values[0, 2:], full.aligned_logprobs(np.asarray([[3, 9]] * 3))[0][0], atol=1e-5)
    assert np.isnan(values[1:, 2:]).all()


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({KEY: {"first": 1}}, "question: KeyError"),
        ({KEY: "text"}, "question: TypeError"),
        (asking(3, np.full((2, 2), V)), "outside 0..10"),
        (asking(3, np.full((2, 2), -1)), "outside 0..10"),
        (asking(3, np.zeros((50, 2))), "not every position"),
        (asking(99, np.zeros((1, 2))), "not every position"),
        ({KEY: {"first": 3, "m": 10**10, "ids": ""}}, "are more than 67108864 numbers"),  # 80 GB for each position
        ({KEY: {"first": 3, "m": 10**23, "ids": ""}}, "question: "),
    ],
)
def test_a_bad_question_fails_alone(params: dict[str, Any], match: str) -> None:
    bad, good = Request(params, 6, start=2), Request(asking(3, np.zeros((2, 1))), 6, start=2)
    assert prefill([bad, good]) == "worker ran"
    assert bad.customized_info is not None
    assert match in bad.customized_info[KEY][0]["error"]
    assert good.customized_info is not None
    assert len(read_answer(good.customized_info).values) == 4


def test_a_bad_question_is_told_whatever_is_written_after_it() -> None:
    request = Request({KEY: {"first": 1}}, 6, start=2)
    request.done = False
    prefill([request])
    request.done = True
    decode(request, torch.randn(1, V), 7)
    assert request.customized_info is not None
    assert request.customized_info[KEY][0]["error"].startswith("question: KeyError")


@pytest.mark.parametrize("name", ["_measure_prefill", "_asked_by", "_answer", "_begin", "_Pass"])
def test_a_fault_anywhere_leaves_the_server_as_it_was(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("injected")

    monkeypatch.setattr(hooks, name, fail)
    request = Request(asking(3, np.zeros((2, 1))), 6, start=2)
    assert prefill([request]) == "worker ran"
    assert "values" not in str(request.customized_info)


def test_a_fault_of_the_server_is_its_own() -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the server's")

    with pytest.raises(RuntimeError, match="the server's"):
        hooks.around_forward(fail, "worker", SimpleNamespace(reqs=[]))


def test_measure_is_accurate_far_from_zero_and_with_impossible_tokens() -> None:
    logits = torch.randn(130, V) * 5 + 3000.0
    logits[:, 4] = -torch.inf
    found = measure(logits, torch.arange(130)[:, None] % V).numpy()
    full = Distributions.from_logits(logits.double().numpy())
    np.testing.assert_allclose(found[:, 0], entropy(full).value, atol=1e-4)
    np.testing.assert_allclose(found[:, 2], full.logprob_of(np.arange(130) % V), atol=1e-3)
    np.testing.assert_allclose(found[:, 1], torch.logsumexp(logits.double(), 1), rtol=1e-6)


def test_nothing_is_hooked_unless_the_environment_asks() -> None:
    """In a process of its own, with SGLang's own discovery of plugins."""
    program = (
        "import os\n"
        "from rrti_sgl.serving import stand_ins; stand_ins.install()\n"
        "from sglang.srt.plugins import load_plugins_by_group\n"
        "from sglang.srt.plugins.hook_registry import HookRegistry\n"
        "for value in (None, '0', '1'):\n"
        "    os.environ |= {} if value is None else {'RRTI_EXACT_SCORES': value}\n"
        "    [f() for f, _ in load_plugins_by_group('sglang.srt.plugins').values()]\n"
        "    print('hooks', len(HookRegistry._hooks))"
    )
    environment = {name: text for name, text in os.environ.items() if name != "RRTI_EXACT_SCORES"}
    environment["SGLANG_USE_CPU_ENGINE"] = "1"
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert re.findall(r"^hooks (\d+)$", found.stdout, re.MULTILINE) == ["0", "0", "5"]
