"""Requests of every kind on a real fused server: refused, aborted, retracted, sampled; the server and its pools survive."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest
from scipy import stats

from rrti_sgl.decoding.job import DecodeOptions, SampleJob
from rrti_sgl.engines.pair import connect
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.fused.protocol import KEY, decode
from rrti_sgl.problems import load_problems
from rrti_sgl.programs.running.session import Concurrency, PairSession
from rrti_sgl.science.gates import DivergenceGate, ThresholdRule
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.tinypair.bundle import bundled_pair
from rrti_sgl.tokens.vocabulary import load_vocabulary
from tests.decoding.test_conformance_real import GATES, jobs
from tests.fused.conftest import serving

pytestmark = pytest.mark.server


EVERY_THIRD = '''
import numpy as np
from rrti_sgl.science.gates import ThresholdGate, ThresholdRule

class Every(ThresholdGate):
    """Takes over where the tokens before are a multiple of n."""

    name, needs_reasoning = "every", False

    def __init__(self, n):
        super().__init__(ThresholdRule(0.5))
        self.n = n

    def signal(self, steps):
        before = [len(steps.prefix) + place for place in range(len(steps.positions))]
        assert before == steps.positions.tolist()
        return np.array([float(n % self.n == 0) if self.n else 1 / 0 for n in before])

class Wrecks(Every):
    """Breaks what the whole round rests on, once."""

    name = "wrecks"

    def __init__(self, where):
        super().__init__(3)
        from rrti_sgl.fused import worker
        whole = getattr(worker, where)

        def broken(*args, **named):
            setattr(worker, where, whole)
            raise RuntimeError(f"{where} failed")

        setattr(worker, where, broken)
'''


def post(server: BothModels, path: str, body: dict[str, Any]) -> Any:
    """The answer of a server, an error's body included."""
    request = urllib.request.Request(
        server.url + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        content = error.read()
    try:
        return json.loads(content)
    except ValueError:
        return content.decode()


def generate(server: BothModels, asked: object, **changes: Any) -> Any:
    body = {
        name: changes.pop(name) for name in ("rid", "return_logprob", "top_logprobs_num", "input_ids") if name in changes
    }
    params = {"max_new_tokens": 12, "temperature": 0, "custom_params": {KEY: asked}, **changes}
    return post(server, "/generate", {"input_ids": [2, 5, 6, 7], "sampling_params": params} | body)


def free_slots(server: BothModels) -> tuple[int, int]:
    """Slots of the base model's pool that are free or cached, of all; the server is idle then, and its caches empty.

    Of the reasoning model's pool SGLang itself keeps account: an idle server in which a slot is missing ends.
    """
    post(server, "/flush_cache?timeout=30", {})
    found = re.findall(r"cache: (\d+) of (\d+) slots were free", server.log_path.read_text())
    free, size = found[-1]
    return int(free), int(size)


@pytest.mark.parametrize(
    ("asked", "changes", "said"),
    [
        ({}, {}, "tau is not given"),
        ({"tau": 0.5, "colour": 3}, {}, "colour"),
        ({"tau": 0.5, "trace": 57}, {}, "trace = 57"),
        ({"gate": "nobody"}, {}, "nobody"),
        ({"gate": "os:system"}, {}, "os:system"),
        ("{", {}, "JSON"),
        (json.dumps({"tau": 0.5, "base_input_ids": [56]}), {}, "vocabulary"),
        (json.dumps({"tau": 0.5, "base_input_ids": [5] * 505}), {}, "base model's prompt"),
        ({"tau": 0.5}, {"regex": "a+"}, "rammar"),
        ({"tau": 0.5}, {"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"tau": 0.5}, {"repetition_penalty": 1.2}, "repetition_penalty"),
        ({"tau": 0.5}, {"min_new_tokens": 3}, "min_new_tokens"),
        ({"tau": 0.5}, {"logit_bias": {"5": 1.0}}, "logit_bias"),
    ],
)
def test_what_cannot_be_served_is_an_error_on_the_request(fused: BothModels, asked, changes, said):
    answer = generate(fused, asked, **changes)
    assert said in json.dumps(answer)
    assert len(generate(fused, {"tau": 0.5})["output_ids"]) == 12
    free, size = free_slots(fused)
    assert free == size


@pytest.mark.parametrize("limit", [1, 2, 7, 8, 9, 17])
def test_a_limit_in_the_middle_of_a_draft_cuts_there(fused: BothModels, limit: int):
    whole = generate(fused, {"tau": 0.5, "trace": 2}, max_new_tokens=40)
    cut = generate(fused, {"tau": 0.5, "trace": 2}, max_new_tokens=limit)
    assert cut["output_ids"] == whole["output_ids"][:limit]
    assert len(cut["meta_info"][KEY]) == limit
    assert cut["meta_info"]["finish_reason"]["type"] == "length"


def test_a_stop_token_in_the_middle_of_a_draft_ends_there(fused: BothModels):
    whole = generate(fused, {"tau": 0.5}, max_new_tokens=40)["output_ids"]
    at = next(index for index, token in enumerate(whole) if index > 9 and token not in whole[:index])
    cut = generate(fused, {"tau": 0.5, "trace": 1}, max_new_tokens=40, stop_token_ids=[whole[at]])
    assert cut["output_ids"] == whole[: at + 1]
    records = decode(cut["meta_info"][KEY], 1)
    assert len(records) == at + 1
    assert records["drafted"].sum() == at + 1 + (records["drafted"].sum() - at - 1)
    assert cut["meta_info"]["finish_reason"]["type"] == "stop"


def test_log_probabilities_are_of_the_guided_model(fused: BothModels):
    """A token's log-probability is that of the model that spoke, and so are the lists."""
    answer = generate(
        fused, {"tau": 0.5, "trace": 56}, max_new_tokens=30, return_logprob=True, top_logprobs_num=3, input_ids=[2, 9, 5, 6]
    )
    records = decode(answer["meta_info"][KEY], 56)
    told = answer["meta_info"]["output_token_logprobs"]
    expected = np.where(records["fired"] == 1, records["reasoning_logprob"], records["base_logprob"])
    assert records["fired"].any()
    np.testing.assert_allclose([entry[0] for entry in told], expected, atol=2e-5)
    assert [entry[1] for entry in told] == answer["output_ids"]
    for row, top in zip(records, answer["meta_info"]["output_top_logprobs"], strict=True):
        side = "reasoning" if row["fired"] else "base"
        np.testing.assert_allclose([entry[0] for entry in top], row[f"{side}_logprobs"][:3], atol=2e-5)


def test_each_request_of_a_batch_has_its_own_gate(fused: BothModels):
    asked = [{"tau": tau, "trace": 1} for tau in (0.0, 0.5, 100.0)] + [
        {"gate": "random", "rho": 0.5, "seed": 3, "trace": 1},
        {"gate": "early", "horizon": 4, "trace": 1},
        {"tau": 0.0, "max_takeovers": 2, "trace": 1},
        {"gate": "never", "metric": "js", "trace": 1},
        {"tau": 0.5, "k": 8, "trace": 1},
        {"tau": 0.5, "doubt": 0.05, "trace": 1},
    ]
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda each: generate(fused, each, max_new_tokens=40), asked))
    for each, answer in zip(asked, together, strict=True):
        assert generate(fused, each, max_new_tokens=40)["output_ids"] == answer["output_ids"], each
    fired = [decode(answer["meta_info"][KEY], 1)["fired"] for answer in together]
    assert fired[0].all()
    assert not fired[2].any()
    assert fired[4].tolist() == [1] * 4 + [0] * 36
    assert fired[5].tolist() == [1] * 2 + [0] * 38
    assert not fired[6].any()
    doubtful = [decode(together[index]["meta_info"][KEY], 1)["drafted"].sum() for index in (8, 1)]
    assert doubtful[0] <= doubtful[1], "drafts that end at a doubt throw less away"
    assert together[8]["output_ids"] == together[1]["output_ids"]


def test_the_first_token_s_distributions_do_not_depend_on_the_temperature(fused: BothModels):
    """SGLang's sampler overwrites the logits of a prompt with probabilities where it draws."""
    asked = {"gate": "never", "metric": "ce", "trace": 56}
    greedy, drawn = (decode(generate(fused, asked, max_new_tokens=1, temperature=t)["meta_info"][KEY], 56) for t in (0, 0.8))
    for column in ("base_logprobs", "reasoning_logprobs", "score"):
        np.testing.assert_allclose(greedy[column], drawn[column], atol=1e-4)


def test_top_k_scores_are_those_of_two_servers(fused: BothModels):
    """With k, the gate sees the lower bound that lists of k give, and not the number over the whole vocabulary."""
    exact, bound = (
        decode(generate(fused, {"gate": "never", "metric": "ce", "k": k, "trace": 56})["meta_info"][KEY], 56) for k in (0, 2)
    )
    assert (bound["score"] <= exact["score"] + 1e-6).all()
    assert (bound["score"] < exact["score"] - 1e-3).any()


def test_an_aborted_request_ends_alone(fused: BothModels):
    gate = DivergenceGate("ce", ThresholdRule(0.55))

    async def run() -> tuple[list[list[int]], list[Any]]:
        async with connect(fused.url, fused.url) as pair, PairSession(pair, Concurrency(8)) as session:
            options = DecodeOptions(4, 400, Sampling(), frozenset())
            some = jobs(pair, 4, different_prompts=True)

            async def one(job: SampleJob) -> list[int]:
                async with aclosing(session.run([job], gate, options)) as found:
                    return (await anext(found)).trace.token_ids

            alone = [await one(job) for job in some]
            together = [asyncio.create_task(one(job)) for job in some]
            before = fused.log_path.read_text().count("Prefill batch")
            while fused.log_path.read_text().count("Prefill batch") == before:
                await asyncio.sleep(0.01)
            together[0].cancel()
            return alone, await asyncio.gather(*together, return_exceptions=True)

    alone, together = asyncio.run(run())
    assert isinstance(together[0], asyncio.CancelledError)
    assert together[1:] == alone[1:]
    generate(fused, {"tau": 0.5})
    free, size = free_slots(fused)
    assert free == size


def test_an_abort_ends_the_named_request_and_none_whose_id_begins_with_it(fused: BothModels):
    def long(rid: str) -> Any:
        return generate(fused, {"tau": 0.5}, rid=rid, max_new_tokens=400, ignore_eos=True)

    whole = long("alone")["output_ids"]
    with ThreadPoolExecutor(3) as pool:
        before = fused.log_path.read_text().count("Prefill batch")
        told = {rid: pool.submit(long, rid) for rid in ("x4", "x40", "x41")}
        while fused.log_path.read_text().count("Prefill batch") == before:
            time.sleep(0.01)
        while not told["x4"].done():  # an abort may come before its request
            post(fused, "/abort_request", {"rid": "x4"})
            time.sleep(0.01)
    assert told["x4"].result()["meta_info"]["finish_reason"]["type"] == "abort"
    assert [told[rid].result()["output_ids"] for rid in ("x40", "x41")] == [whole, whole]
    free, size = free_slots(fused)
    assert free == size


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothModels]:
    """A server of text whose pools hold some 500 tokens and that reads prompts in pieces of 32."""
    flags = ("--max-total-tokens", "500", "--chunked-prefill-size", "32")
    folder = tmp_path_factory.mktemp("small")
    (folder / "own_gates.py").write_text(EVERY_THIRD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        patch.setenv("SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION", "1")  # too many are let in: some have to leave again
        with serving(folder, *flags, steering={"tau": 0.5}, gates=["own_gates:Every", "own_gates:Wrecks"]) as server:
            yield server


def long_requests(n: int) -> list[dict[str, Any]]:
    """Requests whose base prompts are longer than a piece, and than the reasoning model's."""
    vocabulary = load_vocabulary(str(bundled_pair().base))
    questions = [vocabulary.encode(problem.question) for problem in load_problems("world:heldout", limit=n).problems]
    return [
        {"input_ids": ids, "asked": json.dumps({"tau": 0.5, "trace": 1, "base_input_ids": [*questions[0], *ids, *ids]})}
        for ids in questions
    ]


def ask(server: BothModels, each: dict[str, Any]) -> Any:
    return generate(server, each["asked"], input_ids=each["input_ids"], max_new_tokens=100, ignore_eos=True)


def test_full_pools_retract_and_lose_nothing(small: BothModels, fused: BothModels):
    requests = long_requests(8)
    with ThreadPoolExecutor(8) as pool:
        with_room, together = (
            list(pool.map(lambda each, server=server: ask(server, each), requests)) for server in (fused, small)
        )
    assert [answer["output_ids"] for answer in together] == [answer["output_ids"] for answer in with_room]
    assert all(len(answer["meta_info"][KEY]) == 100 for answer in together)
    assert sum(answer["meta_info"]["num_retractions"] for answer in together) > 0, "nothing was retracted: a larger load"
    free, size = free_slots(small)
    assert (free, size) == (500, 500)


def test_a_gate_of_one_s_own_decides_where_the_server_was_started_with_it(small: BothModels):
    """It sees the tokens before each position, those of a given beginning among them, and fails for its request alone."""
    asked = {"gate": "own_gates:Every", "n": 3, "trace": 1, "position": 4}
    answer = generate(small, asked, max_new_tokens=20)
    assert decode(answer["meta_info"][KEY], 1)["fired"].tolist() == [int((4 + at) % 3 == 0) for at in range(20)]
    assert "division by zero" in json.dumps(generate(small, asked | {"n": 0}))
    assert generate(small, asked, max_new_tokens=20)["output_ids"] == answer["output_ids"]
    assert "not_there" in json.dumps(generate(small, {"gate": "own_gates:not_there"}))


@pytest.mark.parametrize("where", ["read", "draft", "verify", "draw"])
def test_a_round_that_fails_is_an_error_on_its_requests_and_the_server_goes_on(small: BothModels, where: str):
    whole = generate(small, {"tau": 0.5})["output_ids"]
    assert f"{where} failed" in json.dumps(generate(small, {"gate": "own_gates:Wrecks", "where": where}))
    assert generate(small, {"tau": 0.5})["output_ids"] == whole
    assert free_slots(small) == (500, 500)


def test_a_stream_that_repeats_itself_is_told_once(small: BothModels):
    """As SGLang streams by default: every piece holds all tokens so far."""

    async def run() -> tuple[int, list[int], list[int]]:
        async with connect(small.url, small.url) as pair, PairSession(pair) as session:
            options = DecodeOptions(4, 40, Sampling(), frozenset())
            [job] = jobs(pair, 1, different_prompts=True)
            *_, told = [event async for event in session.stream(job, GATES["ce"], options)]
            [whole] = [found.trace async for found in session.run([job], GATES["ce"], options)]
            return len(told.trace), told.trace.token_ids, whole.token_ids

    n, streamed, whole = asyncio.run(run())
    assert n == 40
    assert streamed == whole


def test_a_request_that_can_never_fit_is_refused(small: BothModels):
    answer = generate(small, json.dumps({"tau": 0.5, "base_input_ids": [5] * 420}), max_new_tokens=100)
    assert "base model's prompt" in json.dumps(answer)


def test_a_plain_request_is_guided_as_the_server_was_started(small: BothModels):
    plain = post(
        small, "/generate", {"input_ids": [2, 5, 6, 7], "sampling_params": {"max_new_tokens": 30, "temperature": 0}}
    )
    assert plain["output_ids"] == generate(small, {"tau": 0.5}, max_new_tokens=30)["output_ids"]
    assert KEY not in plain["meta_info"], "nothing is told that nobody asked for"


def test_openai_s_interface_speaks_for_the_guided_model(small: BothModels):
    """Steered by the request or as the server was started; streamed text is the text."""
    questions = [problem.question for problem in load_problems("world:heldout", limit=8).problems]
    plain = {"model": "bundled/reasoning", "prompt": questions[0], "max_tokens": 60, "temperature": 0}

    def text(**more: Any) -> str:
        return str(post(small, "/v1/completions", plain | more)["choices"][0]["text"])

    guided = text()
    assert text(custom_params={KEY: {"tau": 0.5}}) == guided
    never = {KEY: {"gate": "never"}}
    assert any(text(prompt=question) != text(prompt=question, custom_params=never) for question in questions)
    streamed = post(small, "/v1/completions", plain | {"stream": True})
    pieces = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert len(pieces) > 1
    assert "".join(piece["choices"][0]["text"] for piece in pieces) == guided


def kept_after(logprobs: np.ndarray, temperature: float, top_p: float) -> np.ndarray | None:
    """(V,) probabilities of a sorted list after temperature and top-p, as SGLang filters; None where a tie is cut."""
    scaled = np.exp(logprobs.astype(np.float64) / temperature)
    scaled /= scaled.sum()
    kept = np.cumsum(scaled) - scaled <= top_p
    if not kept.all() and scaled[kept][-1] < scaled[~kept][0] * 1.001:
        return None  # which of equal tokens are kept is the sorting's choice
    return np.where(kept, scaled, 0) / scaled[kept].sum()


@pytest.mark.parametrize(("temperature", "top_p"), [pytest.param(1.0, 1.0, marks=pytest.mark.slow), (0.8, 0.9)])
def test_draws_have_the_distribution_of_the_model_that_makes_them(fused: BothModels, temperature: float, top_p: float):
    """Randomised probability integral transform of every draw that counted: uniform, for both models."""

    async def run() -> list[Any]:
        async with connect(fused.url, fused.url) as pair, PairSession(pair, Concurrency(32)) as session:
            options = DecodeOptions(56, 60, Sampling(temperature, top_p), pair.stop_token_ids)
            found = session.run(jobs(pair, 96, different_prompts=True), DivergenceGate("ce", ThresholdRule(0.4)), options)
            return [each.trace async for each in found]

    traces = asyncio.run(run())
    random = np.random.default_rng(0)
    for side in ("base", "reasoning"):
        places = []
        for trace in traces:
            rows = getattr(trace, side).gathered()
            for row, drawn in enumerate(getattr(trace, f"{side}_token_ids")):
                if drawn >= 0:
                    p = kept_after(rows.logprobs[row], temperature, top_p)
                    if p is None:
                        continue
                    at = int(np.flatnonzero(rows.ids[row] == drawn)[0])
                    assert p[at] > 0, "a token that the filter drops"
                    places.append(p[:at].sum() + random.random() * p[at])
        assert len(places) > (300 if side == "reasoning" else 3000)
        assert stats.kstest(places, "uniform").pvalue > 1e-4, side


def test_records_are_no_more_than_they_say(fused: BothModels):
    answer = generate(fused, {"tau": 0.5, "trace": 20})
    [length] = {len(base64.b64decode(entry)) for entry in answer["meta_info"][KEY]}
    assert length == 384  # 32 of bookkeeping, 8 + 28 of numbers, 16 for each of 20 places in all
