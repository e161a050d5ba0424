"""What both models are shown of a request: a completion's prompt as it is, a chat by each model's template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import RRTIError
from rrti_sgl.problems import ProblemSet, one_question
from rrti_sgl.programs.api.fields import OwnSample, Prompt, Turn
from rrti_sgl.programs.api.refusals import of_field
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.prompts import FIELD, PromptTemplate
from rrti_sgl.prompts.chat import render_turns
from rrti_sgl.tinypair.bundle import BASE_NAME
from rrti_sgl.tokens.vocabulary import Vocabulary

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}


@dataclass(frozen=True)
class Shown:
    """One prompt: as the store calls it, as each model is shown it (text and ids), and what ends its answer.

    `stops` are by who writes the answer, base or reasoning model: what begins the next question in its template.
    """

    question: str
    base: tuple[str, list[int]]
    reasoning: tuple[str, list[int]]
    stops: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


class Prompts:
    """Makes the prompts of requests; slow for long ones, so it works in a thread of its own.

    Args:
        pair: gives both vocabularies.
        settings: name the templates, where the pair's own are not to be taken.
    """

    def __init__(self, pair: Pair, settings: RunSettings) -> None:
        self._pair, self._settings = pair, settings
        self._world = pair.base.info.model == BASE_NAME
        self._checked: set[tuple[int, bool]] = set()

    def problem_set(self, question: str = "") -> ProblemSet:
        """What suits the pair: templates, grader and length."""
        return one_question(question, world=self._world)

    def completion(self, prompt: Prompt) -> Shown:
        """Both models read the same text, as it is.

        Raises:
            RefusedError: an id that is no token.
        """
        vocabulary = self._pair.vocabulary
        if isinstance(prompt, str):
            text, opening = prompt, list(vocabulary.opening_ids)
            ids = vocabulary.encode(prompt)
            if ids[: len(opening)] != opening:
                ids = [*opening, *ids]
        else:
            if any(not 0 <= i < self._pair.vocab_size for i in prompt):
                raise of_field("prompt", f"an id is outside the vocabulary of {self._pair.vocab_size} tokens.")
            ids = list(prompt)
            text = vocabulary.text_of(ids)
        return Shown(text, (text, ids), (text, ids))

    def sample(self, prompt: Prompt, own: OwnSample) -> Shown:
        """Both prompts of a sample of a client's own run, as token ids.

        Raises:
            RefusedError: an id that is no token.
        """
        base, reasoning = self.completion(prompt), self.completion(own.reasoning_prompt)
        return Shown(base.question, base.base, reasoning.reasoning)

    def chat(self, turns: Sequence[Turn], thinking: bool | None = None) -> Shown:
        """The reasoning model reads the turns by its template, the base model the declared base template.

        In a base template, and in one that is no chat, the turns stand one below the other, without marks.

        Args:
            turns: of the conversation, the user's last.
            thinking: what `enable_thinking` is in the reasoning model's chat template; None: as the endpoint was started.

        Raises:
            RefusedError: a role that there is not, or a last turn that is not the user's.
            UsageError: the tokenizer has no chat template that can be used, and none is declared.
        """
        named = [(self._role(turn, place), turn.content) for place, turn in enumerate(turns)]
        if named[-1][0] != "user":
            raise of_field("messages", "the last is not the user's.")
        question = "\n\n".join(content for _, content in named)
        resolved = self._settings.resolved(self.problem_set(question), self._pair.vocab_size)
        base, reasoning = resolved.base_prompt, resolved.reasoning_prompt
        assert base is not None
        assert reasoning is not None
        if thinking is not None:
            reasoning = replace(reasoning, thinking=thinking)
        return Shown(
            question,
            self._rendered(base, named, question, self._pair.vocabulary),
            self._rendered(reasoning, named, question, self._pair.reasoning_vocabulary),
            (base.stops, reasoning.stops),
        )

    def _rendered(
        self, template: PromptTemplate, named: Sequence[tuple[str, str]], question: str, vocabulary: Vocabulary
    ) -> tuple[str, list[int]]:
        if not template.chat:
            return template.render(question, vocabulary)
        if (id(vocabulary), template.thinking) not in self._checked:
            template.check(vocabulary)
            self._checked.add((id(vocabulary), template.thinking))
        *before, (role, last) = named
        turns = [*before, (role, template.text.replace(FIELD, last))]
        if template.system is not None and turns[0][0] != "system":
            turns.insert(0, ("system", template.system))
        try:
            text = render_turns(vocabulary.tokenizer, turns, thinking=template.thinking)
        except RRTIError:
            raise
        except Exception as error:  # a template is a program of its own; it may refuse a system turn, or the order of turns
            raise of_field("messages", f"the model's chat template refuses them ({str(error)[:200]}).") from error
        return text, vocabulary.encode(text)

    @staticmethod
    def _role(turn: Turn, place: int) -> str:
        if turn.role not in _ROLES:
            raise of_field(f"messages.{place}.role", f"{turn.role!r} is unknown. Use one of {', '.join(_ROLES)}.")
        return _ROLES[turn.role]
