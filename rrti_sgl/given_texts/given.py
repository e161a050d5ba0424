"""The record of one continuation that is given, not generated."""

from __future__ import annotations

from dataclasses import dataclass

from rrti_sgl.records import FinishReason

Conversation = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class GivenText:
    """One continuation to score, as its file has it.

    Args:
        place: where it stands, for errors: "runs.jsonl, line 3".
        continuation: what some model wrote after the prompt: text, or exact token ids of the pair's vocabulary.
        question: the problem's question; None where only `problem_id` or a prompt is there.
        problem_id: id of the problem in a known problem set.
        answer: gold answer; None: there is none.
        base_prompt: the whole prompt of the base model as text; None: a template makes it of the question.
        reasoning_prompt: the same for the reasoning model.
        conversation: the prompt as turns of a chat, (role, content); stands in for the prompts that are not there as text.
        finish_reason: how it ended, where the file says so.
    """

    place: str
    continuation: str | tuple[int, ...]
    question: str | None = None
    problem_id: str | None = None
    answer: str | None = None
    base_prompt: str | None = None
    reasoning_prompt: str | None = None
    finish_reason: FinishReason | None = None
    conversation: Conversation | None = None

    @property
    def content(self) -> tuple[object, ...]:
        """Everything but the place: what decides the scores and the grade, as JSON values."""
        given = self.continuation if isinstance(self.continuation, str) else list(self.continuation)
        prompts = (self.question, self.problem_id, self.base_prompt, self.reasoning_prompt)
        turns = () if self.conversation is None else ([list(turn) for turn in self.conversation],)
        return (*prompts, given, self.answer, self.finish_reason, *turns)
