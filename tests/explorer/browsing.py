"""A store worth looking at, the explorer on a socket, and a browser in front of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from fastapi import FastAPI

from rrti_sgl.db.store import Store
from rrti_sgl.programs.explorer.app import create_app
from rrti_sgl.programs.explorer.branching import Branches
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import Concurrency, open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.programs.web.serving import Place, serve_app, url_of
from rrti_sgl.records import SampleTrace
from rrti_sgl.science.threshold import ThresholdRule, replay
from tests.db.conftest import make_problem, make_run, make_trace

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -r requirements-cpu.lock")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

RULE = ThresholdRule(1.2, 1.5, window=4, warmup="partial")
PROBLEMS, LENGTH, K = 70, 24, 4
VOCABULARY = ["first", " add", " then", " wait", " so", " 7", " =", "."]


def write_store(path: Path) -> Path:
    """A base run and a guided run that takes over by RULE: alike up to the first takeover that changes the token."""
    draws = np.random.default_rng(7)
    gate = {"gate": "divergence", "tau": RULE.tau, "lambda_": RULE.lambda_, "window": RULE.window, "warmup": RULE.warmup}
    with Store.open(path) as store:
        store.add_problems([make_problem(f"p{i:03d}", question=f"How many has person {i}?") for i in range(PROBLEMS)])
        size = {"n_problems": PROBLEMS, "samples_per_problem": 1, "k": K, "temperature": 0.0}
        store.begin_run(make_run("base-1", program="base", gate="never", metric=None, tau=None, **size))
        store.begin_run(make_run("guided-1", program="guided", **gate, **size))
        for i in range(PROBLEMS):
            ids = draws.integers(0, len(VOCABULARY), LENGTH).astype(np.int32)
            base = _trace("base-1", i, ids, ids, np.full(LENGTH, np.nan), draws, correct=i % 4 == 0)
            scores = draws.exponential(size=LENGTH)
            fired, _ = replay(scores, RULE)
            drew = np.where(fired & (draws.random(LENGTH) < 0.6), (ids + 1) % len(VOCABULARY), ids).astype(np.int32)
            changed = np.flatnonzero(drew != ids)
            own = ids.copy()
            if len(changed):  # the base run drew there what the guided run's base model drew
                base = _trace("base-1", i, np.r_[ids[: changed[0]], drew[changed[0]], draws.integers(0, 8, 5)], None,
                              np.full(changed[0] + 6, np.nan), draws, correct=i % 4 == 0)  # fmt: skip
            store.write_samples([base, _trace("guided-1", i, own, drew, scores, draws, correct=i % 3 != 1)])
    return path


ROLLING = ThresholdRule(0.8, rolling=3)


def write_continued(path: Path, several: str = "", times: int = 1) -> dict[str, str]:
    """A guided run whose gate compares rolling means, and a counterfactual run that continues its one sample.

    One beginning may be continued several `times`, the third and every third after it wrongly.

    Returns the ids of samples: "root", and those that were given nothing ("anew"), half of it ("half"), all of it ("whole").
    """
    draws = np.random.default_rng(2)
    ids = draws.integers(0, len(VOCABULARY), LENGTH).astype(np.int32)
    root = _trace("rolling-1", 0, ids, None, draws.exponential(size=LENGTH), draws, correct=True, rule=ROLLING)
    gate = {"gate": "divergence", "tau": ROLLING.tau, "gate_params": {"rolling": ROLLING.rolling}, "n_problems": 1}
    more = {"program": "guided", "arms": {"sample": root.sample.sample_id, "unit": "sentence", "spans": [[0, LENGTH - 1]]}}
    found = {"root": root.sample.sample_id}
    with Store.open(path) as store:
        store.add_problems([make_problem("p000", question="How many has person 0?")])
        store.begin_run(make_run("rolling-1", program="guided", samples_per_problem=1, k=K, temperature=0.0, **gate))
        store.begin_run(make_run("anew-1", program="counterfactual", config={"kind": "counterfactual"} | more, k=K, **gate))
        store.write_samples([root])
        beginnings = {"anew": -1, "half": LENGTH // 2, "whole": LENGTH - 1}
        drawn = [(name, time) for name in beginnings for time in range(times if name == several else 1)]
        for index, (name, time) in enumerate(drawn):
            last = beginnings[name]
            own = ids[last + 1 :].copy()
            own[2:] = (own[2:] + 1) % len(VOCABULARY)
            scores = draws.exponential(size=len(own))
            trace = _trace("anew-1", 0, own, None, scores, draws, correct=time % 3 < 2, rule=ROLLING)
            prompt = (root.sample.base_prompt or "") + "".join(VOCABULARY[t] for t in ids[: last + 1])
            origin = {"parent_sample_id": root.sample.sample_id, "parent_position": last, "arm": "kept"}
            sample_id = f"{name}{time or ''}-{root.sample.sample_id[:4]}"
            found.setdefault(name, sample_id)
            sample = replace(trace.sample, sample_id=sample_id, sample_index=index, base_prompt=prompt, **origin)
            store.write_samples([replace(trace, sample=sample)])
    return found


def _trace(run: str, i: int, ids: Any, drew: Any, scores: Any, draws: np.random.Generator, correct: bool,
           rule: ThresholdRule = RULE) -> SampleTrace:  # fmt: skip
    n, words = len(ids), len(VOCABULARY)
    drew = ids if drew is None else drew
    fired, mean = replay(scores, rule) if not np.isnan(scores).any() else (np.zeros(n, bool), np.full(n, np.nan))
    lists = np.argsort(draws.random((2, n, words)), axis=2)[:, :, :K].astype(np.int32)
    lists[:, :, 0] = ids
    for side in lists:  # no token twice
        for row in side:
            row[1:] = [token for token in range(words) if token != row[0]][: K - 1]
    probabilities = np.log(np.array([0.6, 0.2, 0.1, 0.05], dtype=np.float32))
    tokens = {
        "token_id": np.asarray(ids, dtype=np.int32),
        "token_text": [VOCABULARY[t] for t in ids],
        "base_token_id": np.asarray(drew, dtype=np.int32),
        "base_token_text": [VOCABULARY[t].strip() for t in drew],
        "fired": fired.tolist(),
        "source": ["reasoning" if f else "base" for f in fired],
        "local_mean": mean,
        "planning_tag": ["plan" if VOCABULARY[t] in (" then", " wait") else None for t in ids],
        "reasoning_logprob": np.full(n, -0.25),
        "base_topk_ids": lists[0],
        "base_topk_logprobs": np.tile(probabilities, (n, 1)),
        "reasoning_topk_ids": lists[1],
        "reasoning_topk_logprobs": np.tile(probabilities[::-1], (n, 1)),
    }
    scored = None if run == "base-1" else "ce"
    return make_trace(run, f"p{i:03d}", 0, scores, correct=correct, tokens=tokens, score_metric=scored, answer=str(i))


@contextlib.asynccontextmanager
async def _served(path: Path) -> AsyncIterator[str]:
    with Store.open_readonly(path) as store, Explorer(store) as explorer, Place(port=0).listen() as listening:
        async with _at(create_app(explorer), listening) as url:
            yield url


@contextlib.asynccontextmanager
async def _branching(path: Path, base_url: str, reasoning_url: str) -> AsyncIterator[str]:
    settings = RunSettings("guided", limit=4, gate=GateOptions(tau=0.5))
    with Store.open(path) as store, Place(port=0).listen() as listening:
        async with open_session(base_url, reasoning_url, Concurrency(4)) as session:
            await run_program(session, store, settings)
            with Explorer(store, session.pair.vocabulary, branching=True) as explorer:
                async with _at(create_app(explorer, branches=Branches(explorer, session)), listening) as url:
                    yield url


@contextlib.asynccontextmanager
async def _at(app: FastAPI, listening: socket.socket) -> AsyncIterator[str]:
    """The address of an application, for as long as it is served there."""
    serving = asyncio.create_task(serve_app(app, listening, most_connections=64, grace_s=1))
    try:
        yield url_of(listening)
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


@contextlib.contextmanager
def served_store(path: Path, *servers: str) -> Iterator[str]:
    """The explorer of a store, in a thread of its own: its address.

    With the addresses of two servers, of a new store with a guided run of theirs, whose tokens can be gone on from.
    """
    served = _branching(path, *servers) if servers else _served(path)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(served) as url:
        yield url


@contextlib.contextmanager
def opened_browser() -> Iterator[Any]:
    """Chromium without a window."""
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page that must not complain: errors on its console, of its scripts and of its security policy are collected."""

    def __init__(self, browser: Any, **context: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | context))
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on(
            "console", lambda said: self.complaints.append(said.text) if said.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def close(self) -> None:
        self.context.close()


def views(store: Path, run: str, other: str) -> list[str]:
    """An address of each view."""
    with Store.open_readonly(store) as opened:
        query = "SELECT sample_id FROM samples WHERE run_id = $run ORDER BY problem_id LIMIT 1"
        here, there = (opened.sql(query, {"run": name}).column(0)[0].as_py() for name in (run, other))
    return ["/", f"/sample/{run}/{here}", f"/compare/{run}/{here}/{other}/{there}", f"/tree/{run}/{here}",
            "/statistics/budget?point=1", "/statistics/position?point=1", "/statistics/planning?point=0"]  # fmt: skip


def shown(page: Any, address: str) -> None:
    """Opens a view and waits for what it shows."""
    page.goto(address)
    page.wait_for_selector("main > :not(.waiting)")
    for waits in ("main .waiting", "[aria-busy=true]"):
        page.wait_for_selector(waits, state="detached")
