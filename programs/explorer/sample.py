"""One sample, token by token: what was drawn and decided at each, and both models' candidates."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.db.store import Store
from rrti_sgl.programs.explorer.asked import MOST_TOKENS, PartAsked
from rrti_sgl.programs.explorer.samples import Payload, SampleLists, keys_of
from rrti_sgl.programs.explorer.texts import TokenTexts
from rrti_sgl.science.metrics import METRICS

TOGETHER = 64  # samples whose tokens are read at once, and remembered
_TOLD = """
    SELECT run_id, sample_id, base_prompt, reasoning_prompt, text, k, score_kind, vocab_size, problems.question
    FROM samples JOIN runs USING (run_id) LEFT JOIN problems USING (problem_set, problem_id)
"""
_BEFORE = """
    WITH RECURSIVE chain AS (
        SELECT run_id, sample_id, parent_sample_id, parent_position FROM sample_index
        WHERE list_contains($runs, run_id) AND list_contains($samples, sample_id) AND parent_sample_id IS NOT NULL
        UNION
        SELECT chain.run_id, chain.sample_id, s.parent_sample_id, s.parent_position
        FROM chain JOIN sample_index AS s ON s.sample_id = chain.parent_sample_id
    )
    SELECT chain.run_id, chain.sample_id, count(tokens.score) AS n FROM chain
    JOIN tokens ON tokens.sample_id = chain.parent_sample_id AND tokens.position <= chain.parent_position
    GROUP BY ALL
"""


class Samples:
    """The samples of a store.

    Args:
        store: open.
        index: of its samples.
        lists: of its samples.
        texts: of its tokens.
        runs: what is said of each run, by its id.
    """

    def __init__(
        self, store: Store, index: SampleIndex, lists: SampleLists, texts: TokenTexts, runs: Mapping[str, Payload]
    ) -> None:
        self._store, self._index, self._lists, self._texts, self._runs = store, index, lists, texts, runs
        self._tokens: OrderedDict[tuple[str, str], pa.Table] = OrderedDict()
        self._lock = threading.Lock()

    def sample(self, run: str, sample: str) -> Payload:
        """Everything about a sample but the candidates.

        Raises:
            MissingError: there is none.
        """
        [found] = self.of([self._lists.row(run, sample)])
        return found

    def of(self, rows: Sequence[Payload]) -> Iterator[Payload]:
        """Everything about some samples but the candidates; what is read is read for all of them at once.

        Args:
            rows: of at most `TOGETHER` samples, as lists have them.
        """
        where, ids = _condition(rows)
        told = {(one["run_id"], one["sample_id"]): one for one in self._store.sql(_TOLD + where, ids).to_pylist()}
        before = self._scores_before([row for row in rows if row["parent"] is not None])
        tokens = self._read(rows)
        for row in rows:
            key = row["run"], row["sample"]
            yield self._payload(row, told[key], tokens[key], before.get(key, 0))

    def _payload(self, row: Payload, told: Payload, tokens: pa.Table, before: int) -> Payload:
        text_of = self._texts.of_run(row["run"])
        score = _numbers(tokens, "score")
        scored = np.asarray([value is not None for value in score])
        return {
            "row": row,
            "runInfo": self._runs[row["run"]],
            "question": told["question"] or "",
            "basePrompt": told["base_prompt"],
            "reasoningPrompt": told["reasoning_prompt"],
            "text": told["text"],
            "ids": tokens["token_id"].to_pylist(),
            "texts": tokens["token_text"].to_pylist(),
            "source": tokens["source"].to_pylist(),
            "baseDrew": tokens["base_token_text"].to_pylist(),
            "baseDrewIds": tokens["base_token_id"].to_pylist(),
            "reasoningDrew": [None if i is None else text_of(i) for i in tokens["reasoning_token_id"].to_pylist()],
            "score": score,
            "localMean": _numbers(tokens, "local_mean"),
            "fired": tokens["fired"].to_pylist(),
            "planning": tokens["planning_tag"].to_pylist(),
            "seen": (before + np.cumsum(scored) - scored).tolist(),
            "metrics": {name: _numbers(tokens, name) for name in METRICS},
            "baseLogprob": _numbers(tokens, "base_logprob"),
            "reasoningLogprob": _numbers(tokens, "reasoning_logprob"),
            "bounds": _bounds(told),
        }

    def candidates(self, run: str, sample: str, asked: PartAsked) -> Payload:
        """Both models' most probable tokens at some positions.

        Raises:
            MissingError: there is no such sample.
        """
        tokens = self.tokens(run, sample)
        start = min(asked.from_, len(tokens))
        end = max(start, min(asked.to, start + MOST_TOKENS, len(tokens)))
        text_of = self._texts.of_run(run)
        found = []
        for row in tokens.slice(start, end - start).to_pylist():
            told: Payload = {}
            for side in ("base", "reasoning"):
                ids, logprobs = row[f"{side}_topk_ids"] or [], row[f"{side}_topk_logprobs"] or []
                listed = [(i, x) for i, x in zip(ids, logprobs, strict=True) if math.isfinite(x)]
                told[side] = [[i, text_of(i), round(x, 4)] for i, x in listed]  # lists are no more precise than that
                told[f"{side}Tail"] = _finite(row[f"{side}_tail_mass"])
                told[f"{side}Rank"] = ids.index(row["token_id"]) + 1 if row["token_id"] in ids else None
            found.append(told)
        return {"from": start, "to": end, "tokens": found}

    def tokens(self, run: str, sample: str) -> pa.Table:
        """The tokens of a sample in order of position; the last samples that were asked for are remembered."""
        with self._lock:
            known = self._tokens.get((run, sample))
            if known is not None:
                self._tokens.move_to_end((run, sample))
                return known
        return self._read([self._lists.row(run, sample)])[run, sample]

    def _read(self, rows: Sequence[Payload]) -> dict[tuple[str, str], pa.Table]:
        """The tokens of some samples, each in order of position, by run and sample; they are remembered."""
        where, ids = _condition(rows)
        found = self._store.sql(f"SELECT * FROM tokens {where} ORDER BY run_id, sample_id, position", ids)
        tables, start = {(row["run"], row["sample"]): found.slice(0, 0) for row in rows}, 0
        for key, own in groupby(zip(found["run_id"].to_pylist(), found["sample_id"].to_pylist(), strict=True)):
            tables[key] = found.slice(start, n := sum(1 for _ in own))
            start += n
        with self._lock:
            self._tokens |= tables
            while len(self._tokens) > TOGETHER:
                self._tokens.popitem(last=False)
        return tables

    def _scores_before(self, rows: Sequence[Payload]) -> dict[tuple[str, str], int]:
        """Scores that the gate had seen before the first token: those of the beginning that a continuation was given."""
        found = self._index.sql(_BEFORE, keys_of(rows)).to_pylist() if rows else []
        return {(one["run_id"], one["sample_id"]): one["n"] for one in found}


def _condition(rows: Sequence[Payload]) -> tuple[str, Payload]:
    """That a row is of one of some samples, and its values: each id is one of its own, so that only their rows are read."""
    keys = keys_of(rows)
    runs = {f"run{place}": run for place, run in enumerate(keys["runs"])}
    samples = {f"sample{place}": sample for place, sample in enumerate(keys["samples"])}
    listed = [", ".join(f"${name}" for name in names) for names in (runs, samples)]
    return f"WHERE run_id IN ({listed[0]}) AND sample_id IN ({listed[1]})", runs | samples


def _numbers(tokens: pa.Table, name: str) -> list[float | None]:
    return [_finite(value) for value in tokens[name].to_pylist()]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _bounds(run: Mapping[str, Any]) -> str | None:
    """What the numbers are where they are not exact."""
    if run["score_kind"] == "full" or run["k"] >= run["vocab_size"]:
        return None
    exact = ", entropies exact" if run["score_kind"] == "plugin" else ""
    return f"lower bounds: top-k of {run['k']}{exact}"
