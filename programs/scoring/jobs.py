"""From given texts to jobs: which problem each one answers, its token ids, and both models' prompts.

Text is encoded on its own and put behind the prompt's ids, so the prompt's tokens stay what they are. Where a tokenizer
would merge the end of the prompt with the beginning of the text, or where the model wrote tokens that the tokenizer would
merge otherwise, these are not the tokens that were written; only `token_ids` are exact. Texts whose tokens do not even give
the text back are counted and warned of.

A text that spells a special token (`<|im_end|>`) is taken as that text, letter by letter, because its file is data, and is
counted and warned of. What a model writes itself stays a token: an end token at the end of a text, the begin and the end of
a thought, and added tokens that are not special. Prompts are read as the tokenizer reads them.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rrti_sgl.decoding.job import GivenContinuation, SampleJob
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import argument
from rrti_sgl.given_texts import Conversation, GivenText
from rrti_sgl.grading.extraction import THINK_END, THINK_START
from rrti_sgl.problems import problem_id
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.prompts import PromptTemplate
from rrti_sgl.prompts.chat import render_turns
from rrti_sgl.records import ProblemRecord
from rrti_sgl.rows import Complaints
from rrti_sgl.tokens.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

Prompt = tuple[str, list[int]]

_THOUGHT = re.compile(f"({THINK_START}|{THINK_END})")


def problems_in(texts: Sequence[GivenText], problem_set: str, complaints: Complaints) -> dict[str, ProblemRecord]:
    """The problems that the texts themselves hold, by id; noted where one has no question, or two gold answers."""
    problems: dict[str, ProblemRecord] = {}
    for text in texts:
        if text.question is None:
            complaints.add(
                text.place, f"there is only a problem_id, {text.problem_id!r}; name its set: {argument('problems')}"
            )
            continue
        found = ProblemRecord(problem_id(text.question), problem_set, text.question, text.answer)
        known = problems.setdefault(found.problem_id, found)
        if known.answer != found.answer:
            complaints.add(text.place, f"answer {found.answer!r} differs from {known.answer!r}, given for the same question")
    return problems


def problem_of(text: GivenText, problems: Mapping[str, ProblemRecord]) -> ProblemRecord | None:
    """The problem that a text answers: that of its `problem_id`, or else that of its question."""
    if text.problem_id is not None and text.problem_id in problems:
        return problems[text.problem_id]
    return problems.get(problem_id(text.question)) if text.question is not None else None


@dataclass(slots=True)
class JobBuilder:
    """Makes jobs of texts and notes what is wrong with them.

    Args:
        pair: connected servers.
        settings: of the run, as given; a prompt of None leaves it to the text, unless worked examples are asked for.
        base_template, reasoning_template: what makes the prompts of texts that have none.
        end_token: put the end token after texts that ended with one.
        complaints: where problems go.
    """

    pair: Pair
    settings: RunSettings
    base_template: PromptTemplate
    reasoning_template: PromptTemplate
    end_token: bool
    complaints: Complaints
    templated: bool = False
    unfaithful: list[str] = field(default_factory=list)
    spelled: list[str] = field(default_factory=list)
    _indices: Counter[str] = field(default_factory=Counter)
    _prompts: dict[tuple[str, str], Prompt] = field(default_factory=dict)

    def job(self, run_id: str, text: GivenText, problem: ProblemRecord) -> SampleJob:
        """One text as a job; of no use where something was noted."""
        index = self._indices[problem.problem_id]
        self._indices[problem.problem_id] += 1
        chosen = self.settings
        own_base = _written(text) if chosen.base_prompt is None and chosen.few_shot is None else None
        own_reasoning = (text.reasoning_prompt or text.conversation) if chosen.reasoning_prompt is None else None
        self.templated |= own_base is None
        base = self._prompt("base", own_base, problem)
        reasoning = self._prompt("reasoning", own_reasoning, problem)
        ids = self._token_ids(text)
        self._check(text, ids, base[1], reasoning[1])
        stopped = bool(ids) and ids[-1] in self.pair.stop_token_ids
        given = GivenContinuation(ids, "stop" if stopped else text.finish_reason or "unknown")
        return SampleJob(run_id, problem, index, chosen.seed, *base, *reasoning, given=given)

    @property
    def most_samples(self) -> int:
        """Texts of the problem that has most of them."""
        return max(self._indices.values())

    def warn(self, n: int) -> None:
        """Log how many of n texts are not what their tokens say."""
        for places, what in (
            (self.unfaithful, "are not given back by their tokens; these tokens are scored all the same"),
            (self.spelled, "spell special tokens, which are scored as text and not as these tokens"),
        ):
            if places:
                logger.warning("%d of %d texts %s. The first: %s", len(places), n, what, places[0])

    def _prompt(self, side: str, own: str | Conversation | None, problem: ProblemRecord) -> Prompt:
        """A prompt as text and ids; problems with several texts share it."""
        key = (side, problem.question if own is None else f"own\n{own}")
        if key not in self._prompts:
            vocabulary = self.pair.vocabulary if side == "base" else self.pair.reasoning_vocabulary
            if isinstance(own, tuple):
                rendered = render_turns(vocabulary.tokenizer, own, thinking=self.settings.thinking)
                self._prompts[key] = rendered, vocabulary.encode(rendered)
            elif own is not None:
                self._prompts[key] = own, whole_prompt(own, vocabulary)
            else:
                template = self.base_template if side == "base" else self.reasoning_template
                template.check(vocabulary)
                self._prompts[key] = template.render(problem.question, vocabulary)
        return self._prompts[key]

    def _token_ids(self, text: GivenText) -> tuple[int, ...]:
        vocabulary = self.pair.vocabulary
        if not isinstance(text.continuation, str):
            if outside := [i for i in text.continuation if i >= self.pair.vocab_size]:
                self.complaints.add(text.place, f"token id {outside[0]} is outside the vocabulary of {self.pair.vocab_size}")
            return text.continuation
        body, ended = self._without_end(text.continuation)
        plain = self._plain(body)
        ids = [*plain, *ended]
        if not ids:
            self.complaints.add(text.place, f"the continuation {text.continuation[:40]!r} has no tokens")
        elif text.continuation not in (vocabulary.decode(ids), "".join(vocabulary.pieces(ids))):
            self.unfaithful.append(text.place)
        if plain != vocabulary.encode(body):
            self.spelled.append(text.place)
        end = vocabulary.end_token_id
        ends = ids and ids[-1] in self.pair.stop_token_ids
        if self.end_token and text.finish_reason == "stop" and end is not None and not ends:
            ids.append(end)
        return tuple(ids)

    def _without_end(self, text: str) -> tuple[str, list[int]]:
        """(text, end token) of a text that ends with an end token as it is spelled; other texts as they are."""
        for token_id in self.pair.stop_token_ids:
            spelled = self.pair.vocabulary.token_text(token_id)
            if spelled and text.rstrip().endswith(spelled):
                return text.rstrip().removesuffix(spelled), [token_id]
        return text, []

    def _plain(self, text: str) -> list[int]:
        """Token ids of a text, with no special ones but those of thoughts."""
        vocabulary, ids = self.pair.vocabulary, []
        if not {THINK_START, THINK_END} <= vocabulary.token_ids.keys():
            return vocabulary.encode(text, plain=True)
        for piece in _THOUGHT.split(text):
            ids += [vocabulary.token_ids[piece]] if _THOUGHT.fullmatch(piece) else vocabulary.encode(piece, plain=True)
        return ids

    def _check(self, text: GivenText, ids: Sequence[int], base: Sequence[int], reasoning: Sequence[int]) -> None:
        early = next((place for place, i in enumerate(ids[:-1]) if i in self.pair.stop_token_ids), None)
        if early is not None:
            self.complaints.add(
                text.place,
                f"token {early + 1} of {len(ids)}, id {ids[early]}, is an end token; a solution ends there",
            )
        sides = (("base", base, self.pair.base.info), ("reasoning", reasoning, self.pair.reasoning.info))
        for side, prompt, info in sides:
            if not prompt:
                self.complaints.add(text.place, f"the {side} prompt has no tokens")
            longest = info.max_input_tokens
            if len(prompt) + len(ids) > longest:
                self.complaints.add(
                    text.place,
                    f"{len(prompt)} tokens of the {side} prompt and {len(ids)} of the continuation are more than the "
                    f"{longest} that the {side} server takes",
                )


def whole_prompt(text: str, vocabulary: Vocabulary) -> list[int]:
    """Token ids of a prompt that is given as text, with the token that opens every text unless it is written there."""
    ids, opening = vocabulary.encode(text), list(vocabulary.opening_ids)
    return ids if ids[: len(opening)] == opening else [*opening, *ids]


def _written(text: GivenText) -> str | None:
    """The base model's prompt as the text has it; of a conversation the turns one below the other, without any marks."""
    if text.base_prompt is None and text.conversation is not None:
        return "\n\n".join(content for _, content in text.conversation)
    return text.base_prompt
