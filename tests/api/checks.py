"""What holds of an endpoint over any servers of the bundled pair: by the `openai` package, equal to the pair's own calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai

import rrti_sgl as rr
from rrti_sgl.db import checking
from rrti_sgl.db.store import Store
from rrti_sgl.problems import load_problems
from tests.api.running import served

TAU, LIMIT = 0.5, 110
KEY = "sixteen-letters-or-more"
QUESTIONS = [problem.question for problem in load_problems("world:heldout", limit=6).problems]
MODELS = ("guided", "base", "reasoning")


def check_clients_get_what_the_pair_generates(urls: tuple[str, str], folder: Path) -> None:
    """Completions and chats, whole and streamed, greedy, and every one of them in the store."""
    db = folder / "traces.duckdb"
    ids: list[str] = []
    with rr.connect(*urls) as pair:
        own = {
            (model, question): pair.generate(question, model, **({"tau": TAU} if model == "guided" else {}))
            for model in MODELS
            for question in QUESTIONS
        }
    with served(urls, db, key=KEY, tau=TAU) as (url, _):
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY)
        assert {*MODELS, "entropy", "random"} <= {model.id for model in client.models.list()}
        for (model, question), sample in own.items():
            asked: dict[str, Any] = {"model": model, "max_tokens": LIMIT, "temperature": 0}
            whole = client.completions.create(prompt=question, **asked)
            told = whole.to_dict()
            assert whole.choices[0].text.strip() == sample.text.strip()
            assert whole.choices[0].finish_reason == sample.record.finish_reason
            assert told["usage"]["takeovers"] == sample.record.n_takeovers
            assert whole.usage is not None
            assert whole.usage.completion_tokens == sample.record.n_tokens
            ids.append(told["rrti"]["trace_id"])

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
            ids.append(chunks[-1].to_dict()["rrti"]["trace_id"])

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
        assert [choice.index for choice in several.choices] == list(range(12))
        assert all(" so" not in choice.text for choice in several.choices)
        ids += [choice.to_dict()["rrti"]["trace_id"] for choice in several.choices]
    assert len(set(ids)) == len(ids)
    with Store.open_readonly(db) as store:
        found = store.sql("SELECT sample_id, program, text, n_tokens FROM sample_view").to_pylist()
        assert {row["sample_id"] for row in found} == set(ids)
        assert {row["program"] for row in found} == set(MODELS)
    assert checking.check(db) == []
