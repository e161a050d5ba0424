"""The bodies of answers, OpenAI's: completions and chats, whole or in chunks.

Log-probabilities are raw (temperature 1) and of the model that wrote the token: the reasoning model at takeovers, the base
model elsewhere. There is one for every decoded token, the end token and those of a stop string included.
"""

from __future__ import annotations

import math
import secrets
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from rrti_sgl.decoding.packed_trace import pack
from rrti_sgl.decoding.trace import TraceBuilder
from rrti_sgl.programs.api.samples import Order, Piece, now
from rrti_sgl.tokens.vocabulary import Vocabulary

_LEAST = -9999.0  # JSON has no infinity


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A decoded token and the most probable ones at its place, of the model that wrote it: (text, nats)."""

    text: str
    logprob: float
    top: Sequence[tuple[str, float]]


def logprobs_of(trace: TraceBuilder, start: int, end: int, top: int, vocabulary: Vocabulary) -> list[TokenLogprob]:
    """Of the tokens `start .. end` of a trace, with the `top` most probable of each."""
    sides = {"base": (trace.base, trace.base_logprobs), "reasoning": (trace.reasoning, trace.reasoning_logprobs)}
    lists = {side: rows.padded(len(trace), trace.k) for side, (rows, _) in sides.items()} if top else {}
    found = []
    for place in range(start, end):
        side = trace.sources[place]
        best: list[tuple[str, float]] = []
        if top:
            ids, values = (column[place, :top].tolist() for column in lists[side])
            best = [(vocabulary.token_text(i), _number(value)) for i, value in zip(ids, values, strict=True) if i >= 0]
        text = vocabulary.token_text(trace.token_ids[place])
        found.append(TokenLogprob(text, _number(sides[side][1][place]), best))
    return found


def _number(logprob: float) -> float:
    return max(float(logprob), _LEAST) if not math.isnan(logprob) else _LEAST


class Answers(ABC):
    """The bodies of one answer.

    Args:
        order: what was asked for.
        vocabulary: gives the texts of tokens.
    """

    prefix: str
    kind: str
    chunk_kind: str

    def __init__(self, order: Order, vocabulary: Vocabulary) -> None:
        self._order, self._vocabulary = order, vocabulary
        self._id, self._created = f"{self.prefix}-{secrets.token_hex(12)}", now()
        self._tokens = self._takeovers = self._changed = 0

    def whole(self, pieces: Sequence[Sequence[Piece]]) -> dict[str, Any]:
        """The body of an answer, of the pieces of each choice."""
        choices, told = [], []
        for index, parts in enumerate(pieces):
            last = parts[-1]
            told.append(self._count(last))
            text = "".join(part.text for part in parts)
            choices.append(
                {**self._choice(index, text, self._logprobs(index, last.trace, 0, last.end)), "finish_reason": last.finish}
            )
            packed = {} if self._order.request.rrti.sample is None else {"trace": pack(last.trace)}
            choices[-1]["rrti"] = told[-1] | packed
        return {**self._head(self.kind), "choices": choices, "usage": self._usage(), "rrti": told[0]}

    def opening(self) -> list[dict[str, Any]]:
        """Chunks before the first piece."""
        return []

    def chunk(self, piece: Piece) -> dict[str, Any]:
        """The chunk of a piece."""
        part = self._part(piece.index, piece.text, self._logprobs(piece.index, piece.trace, piece.start, piece.end))
        body = {**self._head(self.chunk_kind), "choices": [{**part, "finish_reason": piece.finish}]}
        if piece.finish is not None:
            body["rrti"] = self._count(piece)
        return body | ({"usage": None} if self._order.request.stream_options.include_usage else {})

    def closing(self) -> list[dict[str, Any]]:
        """Chunks after the last piece: the usage, if asked for."""
        if not self._order.request.stream_options.include_usage:
            return []
        return [{**self._head(self.chunk_kind), "choices": [], "usage": self._usage()}]

    @abstractmethod
    def _choice(self, index: int, text: str, logprobs: Any) -> dict[str, Any]:
        """A whole choice."""

    @abstractmethod
    def _part(self, index: int, text: str, logprobs: Any) -> dict[str, Any]:
        """A part of a choice."""

    @abstractmethod
    def _named(self, index: int, logprobs: Sequence[TokenLogprob]) -> Any:
        """Further log-probabilities of a choice, as this kind of answer has them."""

    def _logprobs(self, index: int, trace: TraceBuilder, start: int, end: int) -> Any:
        wanted = self._order.request.top_logprobs_wanted
        return None if wanted is None else self._named(index, logprobs_of(trace, start, end, wanted, self._vocabulary))

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._order.model.name}

    def _count(self, last: Piece) -> dict[str, Any]:
        """What `rrti` says of a finished choice."""
        trace = last.trace
        takeovers = trace.sources.count("reasoning")
        changed = sum(
            source == "reasoning" and drawn not in (-1, token)
            for source, token, drawn in zip(trace.sources, trace.token_ids, trace.base_token_ids, strict=True)
        )
        self._tokens, self._takeovers, self._changed = (
            self._tokens + len(trace), self._takeovers + takeovers, self._changed + changed,
        )  # fmt: skip
        told: dict[str, Any] = {"takeovers": takeovers, "changed": changed}
        return told | ({} if last.trace_id is None else {"trace_id": last.trace_id})

    def _usage(self) -> dict[str, Any]:
        prompt = self._order.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self._tokens,
            "total_tokens": prompt + self._tokens,
            "takeovers": self._takeovers,
            "changed": self._changed,
        }


class Completions(Answers):
    """Of /v1/completions."""

    prefix, kind, chunk_kind = "cmpl", "text_completion", "text_completion"

    def __init__(self, order: Order, vocabulary: Vocabulary) -> None:
        super().__init__(order, vocabulary)
        self._lengths: Counter[int] = Counter()  # of each choice's tokens so far, in characters

    def _choice(self, index: int, text: str, logprobs: Any) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs}

    _part = _choice

    def _named(self, index: int, logprobs: Sequence[TokenLogprob]) -> Any:
        tokens = [token.text for token in logprobs]
        *offsets, self._lengths[index] = accumulate(map(len, tokens), initial=self._lengths[index])
        return {
            "tokens": tokens,
            "token_logprobs": [token.logprob for token in logprobs],
            "top_logprobs": [dict(token.top) for token in logprobs],
            "text_offset": offsets,
        }


class Chats(Answers):
    """Of /v1/chat/completions."""

    prefix, kind, chunk_kind = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def opening(self) -> list[dict[str, Any]]:
        """Whose turn it is, for each choice."""
        roles = [{"role": "assistant", "content": ""}] * self._order.choices
        return [
            {
                **self._head(self.chunk_kind),
                "choices": [{"index": index, "delta": role, "logprobs": None, "finish_reason": None}],
            }
            for index, role in enumerate(roles)
        ]

    def _choice(self, index: int, text: str, logprobs: Any) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": logprobs}

    def _part(self, index: int, text: str, logprobs: Any) -> dict[str, Any]:
        return {"index": index, "delta": {"content": text} if text else {}, "logprobs": logprobs}

    def _named(self, index: int, logprobs: Sequence[TokenLogprob]) -> Any:
        return {"content": [{**_entry(token.text, token.logprob), "top_logprobs": [_entry(*best) for best in token.top]}
                            for token in logprobs], "refusal": None}  # fmt: skip


def _entry(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
