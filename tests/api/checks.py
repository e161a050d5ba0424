"""What holds of an endpoint over any servers of the bundled pair: by the `openai` package, equal to the pair's own calls."""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pandas as pd
from typer.testing import CliRunner

import rrti_sgl as rr
from rrti_sgl.cli.main import app
from rrti_sgl.db import checking
from rrti_sgl.db.store import Store
from rrti_sgl.problems import load_problems
from tests.api.running import served

TAU, LIMIT = 0.5, 110
KEY = "sixteen-letters-or-more"
QUESTIONS = [problem.question for problem in load_problems("world:heldout", limit=3).problems]
MODELS = ("guided", "base", "reasoning")
# Of runs, with their options.
PROGRAMS: dict[str, list[str]] = {
    "guided": ["--tau", str(TAU)],
    "random": ["--budget", "0.25"],
    "base": [],
    "reasoning": [],
    "diagnose": [],
}


def check_one(client: openai.OpenAI, model: str, question: str, sample: rr.Sample) -> list[str]:
    """A completion, whole and streamed, is the pair's own sample; the ids of both."""
    asked: dict[str, Any] = {"model": model, "max_tokens": LIMIT, "temperature": 0}
    whole = client.completions.create(prompt=question, **asked)
    told = whole.to_dict()
    assert whole.choices[0].text.strip() == sample.text.strip()
    assert whole.choices[0].finish_reason == sample.record.finish_reason
    assert told["usage"]["takeovers"] == sample.record.n_takeovers
    assert whole.usage is not None
    assert whole.usage.completion_tokens == sample.record.n_tokens

    streamed = client.completions.create(
        prompt=question, stream=True, stream_options={"include_usage": True}, logprobs=2, **asked
    )
    *chunks, last = list(streamed)
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len(chunks) > 2, "in pieces"
    assert last.usage == whole.usage
    logprobs = [value for chunk in chunks for value in (chunk.choices[0].logprobs.token_logprobs or [])]
    tokens = sample.tokens.to_pandas()
    written = tokens.base_logprob.where(tokens.source == "base", tokens.reasoning_logprob)
    assert max(abs(a - b) for a, b in zip(logprobs, written, strict=True)) < 1e-3
    return [told["rrti"]["trace_id"], chunks[-1].to_dict()["rrti"]["trace_id"]]


def check_clients_get_what_the_pair_generates(urls: tuple[str, str], folder: Path) -> None:
    """Completions and chats, whole and streamed, greedy, and every one of them in the store."""
    db = folder / "traces.duckdb"
    ids: list[str] = []
    with rr.connect(*urls) as pair, ThreadPoolExecutor() as clients:
        asked = [(model, question) for model in MODELS for question in QUESTIONS]
        given = [{"tau": TAU} if model == "guided" else {} for model, _ in asked]
        own = dict(
            zip(asked, clients.map(lambda each, gate: pair.generate(each[1], each[0], **gate), asked, given), strict=True)
        )
    with served(urls, db, key=KEY, tau=TAU) as (url, _), ThreadPoolExecutor() as clients:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY)
        assert {*MODELS, "entropy", "random"} <= {model.id for model in client.models.list()}
        for found in clients.map(lambda each: check_one(client, *each, own[each]), asked):
            ids += found

        model, question = "guided", QUESTIONS[0]
        turn: Any = [{"role": "user", "content": question.removeprefix("question ").removesuffix(" solution")}]
        chat = client.chat.completions.create(model=model, messages=turn, temperature=0, logprobs=True, top_logprobs=2)
        assert (chat.choices[0].message.content or "").strip() == own[model, question].text.strip()
        parts = list(client.chat.completions.create(model=model, messages=turn, temperature=0, stream=True))
        assert "".join(part.choices[0].delta.content or "" for part in parts) == chat.choices[0].message.content
        ids += [chat.to_dict()["rrti"]["trace_id"], parts[-1].to_dict()["rrti"]["trace_id"]]

        several = client.completions.create(
            model=model, prompt=QUESTIONS, n=2, temperature=0.8, max_tokens=LIMIT, stop=" so", seed=1
        )
        assert [choice.index for choice in several.choices] == list(range(2 * len(QUESTIONS)))
        assert all(" so" not in choice.text for choice in several.choices)
        ids += [choice.to_dict()["rrti"]["trace_id"] for choice in several.choices]
    assert len(set(ids)) == len(ids)
    with Store.open_readonly(db) as store:
        found = store.sql("SELECT sample_id, program, text, n_tokens FROM sample_view").to_pylist()
        assert {row["sample_id"] for row in found} == set(ids)
        assert {row["program"] for row in found} == set(MODELS)
    assert checking.check(db) == []


def check_runs_through_it_are_those_of_the_pair(
    urls: tuple[str, str], folder: Path, names: Collection[str] = tuple(PROGRAMS)
) -> None:
    """`rrti run` by the endpoint leaves the rows that it leaves by the servers: greedy, every token of them."""
    direct = ["--fused-url", urls[0]] if urls[0] == urls[1] else ["--base-url", urls[0], "--reasoning-url", urls[1]]
    with served(urls, folder / "endpoints.duckdb", key=KEY, k=5) as (url, _):
        through = ["--endpoint-url", url, "--api-key", KEY]
        for name, to in (("direct", direct), ("through", through)):
            for program in names:
                options = [
                    "--problems",
                    "world:heldout",
                    "--limit",
                    "6",
                    "--max-new-tokens",
                    "48",
                    "--db",
                    str(folder / f"{name}.duckdb"),
                    *to,
                ]
                done = CliRunner().invoke(app, ["run", program, *PROGRAMS[program], *options])
                assert done.exit_code == 0, done.output
        lockstep = [*options, "--decoding", "lockstep", "--new"]
        refused = CliRunner().invoke(app, ["run", "base", *lockstep])
        assert "Lockstep decoding does not go through an endpoint" in str(refused.exception)
    with Store.open_readonly(folder / "endpoints.duckdb") as store:
        assert not store.sql("SELECT 1 FROM samples").num_rows
    rows = {}
    for name in ("direct", "through"):
        with Store.open_readonly(folder / f"{name}.duckdb") as store:
            found = store.sql(
                "SELECT program, problem_id, tokens.* EXCLUDE (run_id, sample_id) FROM tokens JOIN samples USING (sample_id)"
                " JOIN runs ON runs.run_id = samples.run_id ORDER BY program, problem_id, position"
            )
            runs = store.sql(
                "SELECT program, score_kind, base_model, base_server, config_hash, k FROM runs WHERE status = 'finished'"
                " ORDER BY program"
            )
            rows[name] = found.to_pandas(), runs.to_pylist()
    (direct_rows, direct_runs), (through_rows, through_runs) = rows["direct"], rows["through"]
    assert through_runs == direct_runs
    assert len(direct_rows) > 100 * len(names)
    assert set(direct_rows.program) == set(names)
    lists = [name for name in direct_rows.columns if "topk" in name]  # stored in steps: an equal number may round otherwise
    alone = [rows.drop(columns=lists) for rows in (through_rows, direct_rows)]
    pd.testing.assert_frame_equal(*alone, check_exact=False, rtol=1e-4, atol=2e-5)  # float32 in other batches
    for name in lists:
        both = list(zip(through_rows[name], direct_rows[name], strict=True))
        assert [a is None for a, _ in both] == [b is None for _, b in both]
        known = [(np.asarray(a), np.asarray(b)) for a, b in both if a is not None and b is not None]
        assert len(known) > 80 * len(names)
        assert all(a.shape == b.shape for a, b in known)
        assert all(a[0] == b[0] if "ids" in name else np.allclose(a, b, rtol=0.06, atol=0.01) for a, b in known), name
