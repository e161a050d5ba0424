"""Branches over HTTP on the toy pair: what is forced, decoded, stored and shown; and one on real servers."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import orjson
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import Pair
from rrti_sgl.engines.wire import GenerateRequest, Generation
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.programs.explorer.app import create_app
from rrti_sgl.programs.explorer.branching import Branches, beginning
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import Concurrency, PairSession, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.records import SampleTrace
from rrti_sgl.science.threshold import ThresholdRule, replay
from rrti_sgl.serving.server import ServedPair
from tests.api.toy import HeldEngine, Leaver
from tests.counterfactuals import try_arms
from tests.session.test_runs import BARE, GATE, GRADER, N
from tests.toy_pair import ToyEngine, toy_pair

Result = TypeVar("Result")
GATE_OF_WORLD = GateOptions(tau=0.5)
URL = "http://127.0.0.1:8123"
Ask = Callable[..., Awaitable[list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a guided run of the toy pair."""
    folder = tmp_path_factory.mktemp("branches")
    rng = np.random.default_rng(0)
    rows = [
        {"question": " ".join(f"w{i}" for i in rng.integers(1, 7, size=5)), "answer": f"w{1 + place % 6}"}
        for place in range(N)
    ]
    problems = folder / "problems.jsonl"
    problems.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    settings = RunSettings(
        "guided", str(problems), k=4, max_new_tokens=30, gate=GATE, base_prompt=BARE, reasoning_prompt=BARE, grader=GRADER
    )

    async def go() -> None:
        async with PairSession(toy_pair(3), Concurrency(4)) as session:
            await run_program(session, store, settings)
            await run_program(session, store, replace(settings, program="base"))

    with Store.open(folder / "traces.duckdb", precision="exact") as store:
        asyncio.run(go())
    return folder / "traces.duckdb"


@pytest.fixture
def store(path: Path, tmp_path: Path) -> Any:
    (tmp_path / "traces.duckdb").write_bytes(path.read_bytes())
    with Store.open(tmp_path / "traces.duckdb") as opened:
        yield opened


@pytest.fixture
def parent(store: Store) -> SampleTrace:
    """A greedy guided sample with takeovers that changed its token, and some tokens after the first of them."""
    rows = store.sql(
        "SELECT sample_id FROM sample_view WHERE program = 'guided' AND n_changed > 1 AND n_tokens > 12"
    ).to_pylist()
    found = [store.load_sample(row["sample_id"]) for row in rows]
    return next(trace for trace in found if changed(trace)[0] < 5)


def changed(trace: SampleTrace) -> list[int]:
    tokens = trace.tokens
    return [int(t) for t in np.flatnonzero((tokens.base_token_id >= 0) & (tokens.base_token_id != tokens.token_id))]


@contextlib.asynccontextmanager
async def opened(
    store: Store, pair: Pair | None = None, most: int = 8
) -> AsyncIterator[tuple[Explorer, Branches, httpx.AsyncClient]]:
    async with PairSession(pair or toy_pair(3), Concurrency(4)) as session:
        with Explorer(store, session.pair.vocabulary, branching=True) as explorer:
            branches = Branches(explorer, session, [GRADER], most)
            transport = httpx.ASGITransport(create_app(explorer, branches=branches))
            async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
                yield explorer, branches, http


def on(store: Store, work: Callable[[Explorer, Ask], Awaitable[Result]], pair: Pair | None = None) -> Result:
    async def go() -> Result:
        async with opened(store, pair) as (explorer, _, http):

            async def ask(**body: Any) -> list[dict[str, Any]]:
                answer = await http.post("/data/branches", json=body)
                assert answer.status_code == 200, answer.text
                assert answer.headers["content-type"].startswith("text/event-stream")
                return [orjson.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n") if part]

            return await work(explorer, ask)

    return asyncio.run(go())


def named(trace: SampleTrace) -> dict[str, Any]:
    return {"run": trace.sample.run_id, "sample": trace.sample.sample_id}


def tokens_of(events: list[dict[str, Any]], name: str) -> list[Any]:
    return [value for event in events if event["event"] == "tokens" for value in event[name]]


def test_the_token_that_was_there_gives_the_sample_that_was_there(store: Store, parent: SampleTrace) -> None:
    place = changed(parent)[0]
    token = int(parent.tokens.token_id[place])

    async def work(explorer: Explorer, ask: Ask) -> None:
        events = await ask(**named(parent), position=place, token=token, program="guided")
        assert [event["event"] for event in events if event["event"] != "tokens"] == ["started", "finished"]
        assert len([event for event in events if event["event"] == "tokens"]) > 1, "in pieces"
        rest = parent.tokens.token_id[place + 1 :].tolist()
        assert tokens_of(events, "ids") == rest
        assert tokens_of(events, "source") == list(parent.tokens.source[place + 1 :])
        assert tokens_of(events, "fired") == parent.tokens.fired[place + 1 :].tolist()
        kept = store.load_sample(events[-1]["sample"])
        assert kept.sample.run_id == events[-1]["run"] == events[0]["run"]
        assert kept.tokens.token_id.tolist() == rest
        assert "".join(tokens_of(events, "texts")) == "".join(kept.tokens.token_text)
        np.testing.assert_allclose(kept.tokens.local_mean, parent.tokens.local_mean[place + 1 :])  # the gate remembers
        assert (kept.sample.parent_sample_id, kept.sample.parent_position) == (parent.sample.sample_id, place)
        assert (kept.sample.arm, kept.sample.correct, kept.sample.answer) == (
            "taken", parent.sample.correct, parent.sample.answer,
        )  # fmt: skip
        run = store.get_run(kept.sample.run_id)
        assert (run.program, run.status, run.kind, run.config["forced"]) == (
            "counterfactual",
            "finished",
            "counterfactual",
            token,
        )
        [node] = explorer.answer(f"tree/{parent.sample.run_id}/{parent.sample.sample_id}", {})
        assert (node["sample"], node["position"], node["arm"], node["program"]) == (
            kept.sample.sample_id,
            place,
            "taken",
            "guided",
        )
        assert node["token"].strip() == f"w{token}"
        assert node["text"] == kept.sample.text
        assert {row["run"] for row in explorer.info()["runs"]} >= {run.run_id}

    on(store, work)


def test_denied_is_what_a_counterfactual_makes_of_it(store: Store, parent: SampleTrace) -> None:
    place = changed(parent)[0]

    async def work(explorer: Explorer, ask: Ask) -> list[dict[str, Any]]:
        return await ask(**named(parent), position=place, token=int(parent.tokens.base_token_id[place]), program="guided")

    events = on(store, work)

    async def made() -> str:
        async with PairSession(toy_pair(3)) as session:
            record, _ = await try_arms(session, store, parent.sample.sample_id, positions=[place], trust=[GRADER])
        return record.run_id

    query = "SELECT sample_id FROM samples WHERE run_id = $run AND arm = 'denied'"
    [row] = store.sql(query, {"run": asyncio.run(made())}).to_pylist()
    arm = store.load_sample(row["sample_id"])
    kept = store.load_sample(events[-1]["sample"])
    assert kept.tokens.token_id.tolist() == arm.tokens.token_id.tolist() != parent.tokens.token_id[place + 1 :].tolist()
    assert (kept.sample.arm, kept.sample.correct, kept.sample.text) == ("denied", arm.sample.correct, arm.sample.text)


def test_a_branch_of_a_branch_goes_on_from_both_beginnings(store: Store, parent: SampleTrace) -> None:
    """Each forces what was there, so what comes is the end of the first sample; of an arm by `counterfactual`, too."""
    place = changed(parent)[0]

    async def work(explorer: Explorer, ask: Ask) -> None:
        first = await ask(**named(parent), position=place, token=int(parent.tokens.token_id[place]), program="guided")
        middle = store.load_sample(first[-1]["sample"])
        at = 2
        second = await ask(**named(middle), position=at, token=int(middle.tokens.token_id[at]), program="guided")
        rest = parent.tokens.token_id[place + 1 + at + 1 :].tolist()
        assert tokens_of(second, "ids") == rest
        leaf = store.load_sample(second[-1]["sample"])
        assert (leaf.sample.parent_sample_id, leaf.sample.parent_position) == (middle.sample.sample_id, at)
        assert leaf.sample.answer == parent.sample.answer
        nodes = explorer.answer(f"tree/{parent.sample.run_id}/{parent.sample.sample_id}", {})
        assert [(node["sample"], node["parent"]) for node in nodes] == [
            (middle.sample.sample_id, parent.sample.sample_id), (leaf.sample.sample_id, middle.sample.sample_id),
        ]  # fmt: skip
        assert nodes[1]["token"].strip() == f"w{middle.tokens.token_id[at]}"
        exported = explorer.answer(f"export/tree/{parent.sample.run_id}/{parent.sample.sample_id}", {})
        assert exported["root"]["sample"] == parent.sample.sample_id
        assert exported["nodes"] == nodes
        # What the page counts as seen is what the gate had seen: the stored rule replays over all of it.
        shown = explorer.answer(f"sample/{leaf.sample.run_id}/{leaf.sample.sample_id}", {})
        before = place + at + 2
        assert shown["seen"] == list(range(before, before + len(rest)))
        rule = ThresholdRule(GATE.tau or 0.0)
        np.testing.assert_array_equal(replay(parent.tokens.score, rule)[0][before:], shown["fired"])

    on(store, work)


@pytest.mark.parametrize(
    ("program", "ran", "source"), [("base", "diagnose", "base"), ("reasoning", "reasoning", "reasoning")]
)
def test_one_model_goes_on_alone(program: str, ran: str, source: str, store: Store, parent: SampleTrace) -> None:
    async def work(explorer: Explorer, ask: Ask) -> None:
        token = int(parent.tokens.token_id[1])
        events = await ask(**named(parent), position=1, token=token, program=program)
        assert set(tokens_of(events, "source")) == {program}
        kept = store.load_sample(events[-1]["sample"])
        assert (store.get_run(kept.sample.run_id).config["program"], kept.sample.arm) == (ran, None)
        candidates = explorer.answer(f"candidates/{kept.sample.run_id}/{kept.sample.sample_id}", {})["tokens"]
        assert all(each["reasoning"] for each in candidates)
        assert all(each["base"] for each in candidates) == (program == "base"), "watched by the other model"

    on(store, work)


def test_another_threshold_temperature_seed_and_length(store: Store, parent: SampleTrace) -> None:
    async def work(explorer: Explorer, ask: Ask) -> None:
        given = {"tau": -1.0, "temperature": 0.7, "seed": 5, "maxNewTokens": 9}
        events = await ask(**named(parent), position=2, token=3, program="guided", **given)
        assert all(tokens_of(events, "fired"))
        run = store.get_run(events[-1]["run"])
        assert (run.tau, run.temperature, run.seed, run.max_new_tokens) == (-1.0, 0.7, 5, 9)
        assert events[-1]["tokens"] <= 6

    on(store, work)


def test_lambda_can_be_set_and_left_out(store: Store, parent: SampleTrace) -> None:
    async def work(explorer: Explorer, ask: Ask) -> None:
        place = changed(parent)[0]
        at = {"position": place, "token": int(parent.tokens.token_id[place]), "program": "guided"}
        with_factor = (await ask(**named(parent), **at, **{"lambda": 1.5}))[-1]
        again = (await ask(**named(parent), **at, tau=GATE.tau, **{"lambda": False}))[-1]
        rules = [(run.tau, run.lambda_) for run in (store.get_run(each["run"]) for each in (with_factor, again))]
        assert rules == [(GATE.tau, 1.5), (GATE.tau, None)]
        first, second = (store.load_sample(each["sample"]) for each in (with_factor, again))
        assert (first.sample.arm, second.sample.arm) == (None, None), "more than the token was asked for"
        assert second.tokens.token_id.tolist() == parent.tokens.token_id[place + 1 :].tolist()
        mean = first.tokens.local_mean
        decided = ThresholdRule(GATE.tau or 0.0, 1.5).fires(
            first.tokens.score, mean, np.arange(place + 1, place + 1 + len(mean), dtype=np.int32)
        )
        np.testing.assert_array_equal(first.tokens.fired, decided)

    on(store, work)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"lambda": 0}, 400, "lambda"),
        ({"position": 99}, 400, "position = 99 is outside"),
        ({"token": 7}, 400, "token = 7 is outside the vocabulary of 7"),
        ({"token": "x"}, 400, "token: .*integer"),
        ({"program": "oracle"}, 400, "program: .*'base'"),
        ({"temperature": 11}, 400, "temperature"),
        ({"color": 1}, 400, "color"),
        ({"sample": "none"}, 404, "no sample 'none'"),
        ({"maxNewTokens": 20_000}, 400, "maxNewTokens 20000"),
    ],
)  # fmt: skip
def test_what_cannot_begin_is_refused(
    change: dict[str, Any], status: int, message: str, store: Store, parent: SampleTrace
) -> None:
    async def go() -> httpx.Response:
        async with opened(store) as (_, _, http):
            body = {**named(parent), "position": 1, "token": 1, "program": "guided", **change}
            return await http.post("/data/branches", json=body)

    answer = asyncio.run(go())
    assert answer.status_code == status
    assert re.search(message, answer.json()["error"]["message"]), answer.text
    assert answer.json()["error"]["remedy"]


def test_a_rolling_mean_and_lambda_are_refused_by_name(store: Store, parent: SampleTrace) -> None:
    settings = RunSettings.from_dict(store.get_run(parent.sample.run_id).config, [GRADER])

    async def go() -> tuple[httpx.Response, httpx.Response]:
        async with PairSession(toy_pair(3), Concurrency(4)) as session:
            run = (await run_program(session, store, replace(settings, gate=replace(settings.gate, rolling=3)))).run_id
        [first, *_] = store.sql("SELECT sample_id FROM samples WHERE run_id = $run", {"run": run}).to_pylist()
        body = {"run": run, "sample": first["sample_id"], "position": 0, "token": 1, "program": "guided"}
        async with opened(store) as (_, _, http):
            refused = await http.post("/data/branches", json={**body, "lambda": 2})
            return refused, await http.post("/data/branches", json={**body, "tau": 0.7})

    refused, without = asyncio.run(go())
    assert refused.status_code == 400
    said = refused.json()["error"]
    assert said["message"] == "rolling = 3 and lambda = 2 both need the local mean, each of its own window."
    assert said["remedy"] == "Leave one of them out."
    assert without.status_code == 200
    assert '"finished"' in without.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-length": str(2**20)}, 413),
        ({}, 400),
    ],
)
def test_pages_of_others_branch_nothing(headers: dict[str, str], status: int, store: Store) -> None:
    async def go() -> httpx.Response:
        async with opened(store) as (_, _, http):
            return await http.post("/data/branches", content=b"{}", headers={"content-type": "application/json", **headers})

    answer = asyncio.run(go())
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_run_of_another_vocabulary_or_kind_is_told(store: Store, parent: SampleTrace) -> None:
    other = replace(toy_pair(3).vocabulary, token_ids={"<end>": 0, "other": 1})
    pair = replace(toy_pair(3), vocabulary=other)

    async def go() -> httpx.Response:
        async with opened(store, pair) as (_, _, http):
            return await http.post("/data/branches", json={**named(parent), "position": 1, "token": 1, "program": "base"})

    answer = asyncio.run(go())
    assert answer.status_code == 400
    assert "another vocabulary" in answer.json()["error"]["message"]


def test_without_models_it_says_what_to_start(store: Store) -> None:
    async def go() -> httpx.Response:
        with Explorer(store) as explorer:
            transport = httpx.ASGITransport(create_app(explorer))
            async with httpx.AsyncClient(transport=transport, base_url=URL) as http:
                return await http.post("/data/branches", json={})

    answer = asyncio.run(go())
    assert answer.status_code == 400
    assert "rrti view --base-url" in answer.json()["error"]["remedy"]


def test_who_leaves_ends_the_work_and_nothing_is_kept(store: Store, parent: SampleTrace) -> None:
    async def go() -> None:
        engine = HeldEngine(3)
        async with opened(store, replace(toy_pair(3), base=engine)) as (explorer, branches, _):
            leaver = Leaver("/data/branches", {**named(parent), "position": 1, "token": 1, "program": "guided"})
            calling = asyncio.create_task(leaver.call(create_app(explorer, branches=branches)))
            await engine.asked.wait()
            assert branches.running == 1
            leaver.leave.set()
            await calling
            assert (branches.running, engine.cancelled) == (0, 1)
        assert leaver.status == 200

    asyncio.run(go())
    assert store.find_runs(program="counterfactual") == []


def test_more_than_may_be_are_told_to_wait(store: Store, parent: SampleTrace) -> None:
    async def go() -> None:
        engine = HeldEngine(3)
        body = {**named(parent), "position": 1, "token": 1, "program": "guided"}
        async with opened(store, replace(toy_pair(3), base=engine), most=1) as (_, _, http):
            first = asyncio.create_task(http.post("/data/branches", json=body))
            await engine.asked.wait()
            second = await http.post("/data/branches", json=body)
            assert second.status_code == 429
            assert "Wait" in second.json()["error"]["remedy"]
            engine.may.set()
            assert '"finished"' in (await first).text
            assert (await http.post("/data/branches", json=body)).status_code == 200

    asyncio.run(go())


class DeadEngine(ToyEngine):
    async def generate(self, requests: Any) -> list[Generation]:
        requests = list(requests)
        assert all(isinstance(request, GenerateRequest) for request in requests)
        raise EndpointError("The base server died.", "Start it again.")


def test_a_server_that_dies_is_told_and_nothing_is_kept(store: Store, parent: SampleTrace) -> None:
    async def work(explorer: Explorer, ask: Ask) -> None:
        events = await ask(**named(parent), position=1, token=1, program="guided")
        assert events[-1] == {"event": "failed", "message": "The base server died.", "remedy": "Start it again."}

    on(store, work, replace(toy_pair(3), base=DeadEngine(3)))
    assert store.find_runs(program="counterfactual") == []


def test_a_beginning_that_nobody_noted_is_no_beginning(store: Store, parent: SampleTrace) -> None:
    sample = replace(parent.sample, parent_sample_id=parent.sample.sample_id, parent_position=1, arm=None)
    with pytest.raises(UsageError, match="not known which token"):
        beginning(store, replace(parent, sample=sample))


@pytest.mark.server
def test_a_branch_on_real_servers(served_pair: ServedPair, tmp_path: Path) -> None:
    """The bundled pair: a takeover denied spoils a sample, in the store's own words; forced again it is as it was."""

    async def go() -> None:
        async with open_session(served_pair.base.url, served_pair.reasoning.url, Concurrency(4)) as session:
            await run_program(session, store, RunSettings("guided", limit=4, gate=GATE_OF_WORLD))
            row = store.sql("FROM sample_view WHERE n_changed > 0 ORDER BY sample_id LIMIT 1").to_pylist()[0]
            trace = store.load_sample(row["sample_id"])
            place = changed(trace)[0]
            with Explorer(store, session.pair.vocabulary, branching=True) as explorer:
                branches = Branches(explorer, session)
                transport = httpx.ASGITransport(create_app(explorer, branches=branches))
                async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=120) as http:
                    ends = []
                    for token in (trace.tokens.token_id[place], trace.tokens.base_token_id[place]):
                        body = {**named(trace), "position": place, "token": int(token), "program": "guided"}
                        answer = await http.post("/data/branches", json=body)
                        ends.append(orjson.loads(answer.text.rstrip().rpartition("\n\n")[2].removeprefix("data: ")))
                    nodes = explorer.answer(f"tree/{trace.sample.run_id}/{trace.sample.sample_id}", {})
        assert [end["event"] for end in ends] == ["finished", "finished"]
        taken, denied = (store.load_sample(end["sample"]) for end in ends)
        assert taken.tokens.token_id.tolist() == trace.tokens.token_id[place + 1 :].tolist()
        assert (taken.sample.arm, denied.sample.arm) == ("taken", "denied")
        assert (taken.sample.answer, taken.sample.correct) == (trace.sample.answer, trace.sample.correct)
        assert {node["sample"] for node in nodes} == {taken.sample.sample_id, denied.sample.sample_id}

    with Store.open(tmp_path / "traces.duckdb") as store:
        asyncio.run(go())
