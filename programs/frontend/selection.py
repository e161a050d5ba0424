"""`select`: the choices of a program scored by the base model, and handed to SGLang's own choice methods.

Each choice is scored in one prefill on the cached prompt. Its tokens are those of the text since the last generation
together with the choice, so that a choice after a trailing space is tokenised as one would write it; scoring begins where
that differs from the prompt alone.

SGLang's own backend (0.5.23) means the same and computes something else: the first entry that the server returns has no
log-probability, so the prompt's last token is counted as a part of every choice, which favours short ones. After a prompt of
one token, and with `greedy_token_selection` and `unconditional_likelihood_normalized`, it fails. Here only positions that
have a log-probability are asked for, and the means are over the choice's own tokens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl.engines.wire import GenerateRequest
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.frontend.prefixes import Prompt
from rrti_sgl.programs.running.session import PairSession

LogprobEntry = tuple[float | None, int, str | None]  # SGLang's: log-probability, id, text


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice as it continues the prompt: all ids up to its end, and the index of the first that is scored."""

    text: str
    ids: tuple[int, ...]
    start: int


def read_choices(prompt: Prompt, known: Prompt, encoded: Sequence[Sequence[int]], texts: Sequence[str]) -> list[Choice]:
    """Find out what is scored of each choice.

    Args:
        prompt: the text before the choices; its ids with the opening tokens.
        known: the part of it whose ids are fixed; its ids with the opening tokens.
        encoded: for each choice, the ids of what follows `known` in the prompt and the choice together.
        texts: the choices.

    Raises:
        UsageError: no choices, or one without a token that can be scored.
    """
    if not texts:
        raise UsageError("select() has no choices.", "Give at least one.")
    choices = []
    for text, tail in zip(texts, encoded, strict=True):
        ids = (*known.ids, *tail)
        shared = next((i for i, (a, b) in enumerate(zip(ids, prompt.ids, strict=False)) if a != b), len(prompt.ids))
        start = max(shared, 1)
        if start >= len(ids):
            raise UsageError(f"The choice {text!r} has no token to score.", "Put text before select, or drop the choice.")
        choices.append(Choice(text, ids, start))
    return choices


async def decide(choices: Sequence[Choice], method: Any, session: PairSession) -> Any:
    """SGLang's `ChoicesDecision` of a choice method, by the base model's log-probabilities of each choice's tokens."""
    scores = await _score(choices, session)
    alone = await _score_alone(choices, session) if method.requires_unconditional_logprobs else None
    means = [sum(entry[0] or 0.0 for entry in entries) / len(entries) for entries in scores]
    return method(
        choices=[choice.text for choice in choices],
        normalized_prompt_logprobs=means,
        input_token_logprobs=scores,
        output_token_logprobs=[[] for _ in choices],
        unconditional_token_logprobs=alone,
    )


async def _score(choices: Sequence[Choice], session: PairSession) -> list[list[LogprobEntry]]:
    requests = [GenerateRequest(choice.ids, max_new_tokens=0, k=1, score_from=choice.start) for choice in choices]
    answers = await asyncio.gather(*(session.ask("base", request) for request in requests))
    return [
        [
            (float(logprob), token_id, None)
            for logprob, token_id in zip(answer.input_logprobs, choice.ids[choice.start :], strict=True)
        ]
        for choice, answer in zip(choices, answers, strict=True)
    ]


async def _score_alone(choices: Sequence[Choice], session: PairSession) -> list[list[LogprobEntry]]:
    """The same tokens without a prompt; the first has no log-probability, which is None."""
    alone = [Choice(choice.text, choice.ids[choice.start :], 1) for choice in choices]
    scored = iter(await _score([choice for choice in alone if len(choice.ids) > 1], session))
    return [[(None, choice.ids[0], None), *(next(scored) if len(choice.ids) > 1 else [])] for choice in alone]
