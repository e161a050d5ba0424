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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rrti_sgl.engines.wire import GenerateRequest
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running.session import PairSession

LogprobEntry = tuple[float | None, int, str | None]  # SGLang's: log-probability, id, text


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice as it continues the prompt: all ids up to its end, and the index of the first that is scored."""

    text: str
    ids: tuple[int, ...]
    start: int


def read_choices(prompt_ids: Sequence[int], continued: Mapping[str, tuple[int, ...]]) -> list[Choice]:
    """Find out what is scored of each choice.

    Args:
        prompt_ids: of the text before the choices, with the opening tokens.
        continued: for each choice, the ids of that text and the choice together.

    Raises:
        UsageError: no choices, or one without a token that can be scored.
    """
    if not continued:
        raise UsageError("select() has no choices.", "Give at least one.")
    choices = []
    for text, ids in continued.items():
        shared = next((i for i, (a, b) in enumerate(zip(ids, prompt_ids, strict=False)) if a != b), len(prompt_ids))
        start = max(shared, 1)
        if start >= len(ids):
            raise UsageError(f"The choice {text!r} has no token to score.", "Put text before select, or drop the choice.")
        choices.append(Choice(text, ids, start))
    return choices


async def decide(choices: Sequence[Choice], method: Any, session: PairSession) -> Any:
    """SGLang's `ChoicesDecision` of a choice method, by the base model's log-probabilities of each choice's tokens."""
    scores = await asyncio.gather(*(_score(choice.ids, choice.start, session) for choice in choices))
    alone = None
    if method.requires_unconditional_logprobs:  # of the same tokens without a prompt
        alone = await asyncio.gather(*(_score(choice.ids[choice.start :], 0, session) for choice in choices))
    return method(
        choices=[choice.text for choice in choices],
        normalized_prompt_logprobs=[sum(entry[0] or 0.0 for entry in entries) / len(entries) for entries in scores],
        input_token_logprobs=scores,
        output_token_logprobs=[[] for _ in choices],
        unconditional_token_logprobs=alone,
    )


async def _score(ids: tuple[int, ...], start: int, session: PairSession) -> list[LogprobEntry]:
    """The entries of the ids from `start` on; the first of a sequence has no log-probability, which is None."""
    first = max(start, 1)
    scored: Sequence[float] = []
    if first < len(ids):
        answer = await session.ask("base", GenerateRequest(ids, max_new_tokens=0, k=1, score_from=first))
        scored = [float(logprob) for logprob in answer.input_logprobs]
    logprobs = [*[None] * (first - start), *scored]
    return [(logprob, token_id, None) for logprob, token_id in zip(logprobs, ids[start:], strict=True)]
