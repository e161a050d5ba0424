"""From the rows of any format to `GivenText` records, by a map of field names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.given_texts.given import Conversation, GivenText
from rrti_sgl.records import FinishReason
from rrti_sgl.rows import Complaints, Place, Row, fields_of, is_list, lone_surrogate, look_up

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "unknown": "unknown",
}


@dataclass(frozen=True, slots=True)
class TextFields:
    """Which field of a row holds what; None stands for the field of the same name, which may be absent.

    A field that is named here must be in every row. A name with dots leads into nested objects and lists: `outputs.0.text`.

    Args:
        text: the continuation as text, or a list of several.
        token_ids: the continuation as token ids, or a list of such lists; goes before `text`.
        question: the problem's question.
        problem_id: the problem's id in a known problem set.
        prompt: the base model's whole prompt as text; stands in for the question where there is none.
        reasoning_prompt: the reasoning model's whole prompt as text.
        conversation: the prompt as a list of turns with `role` and `content`; the last one of a user stands in for the
            question where there is none.
        answer: the gold answer. A list is joined by commas.
        finish_reason: "stop", "length" (also "eos", "end_turn", "max_tokens", "model_length") or "unknown", or a list.
    """

    text: str | None = None
    token_ids: str | None = None
    question: str | None = None
    problem_id: str | None = None
    prompt: str | None = None
    reasoning_prompt: str | None = None
    conversation: str | None = None
    answer: str | None = None
    finish_reason: str | None = None

    @classmethod
    def of(cls, names: Mapping[str, str]) -> TextFields:
        """The map of names as they were typed.

        Raises:
            UsageError: there is no such field.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(names) - set(known)):
            raise UsageError(f"{argument('fields')}: {unknown[0]!r} is unknown.", f"Use one of {', '.join(known)}.")
        return cls(**names)


def given_texts(place: Place, row: Row, names: TextFields, complaints: Complaints) -> list[GivenText]:
    """The continuations of one row; empty where something is wrong with it, which is noted then."""
    before = len(complaints)
    cells = _Cells(place, row, names, complaints)
    question, problem_id = cells.text("question"), cells.text("problem_id")
    base_prompt, reasoning_prompt = cells.text("prompt"), cells.text("reasoning_prompt")
    conversation = cells.conversation()
    if question is None and problem_id is None:
        asked = [content for role, content in conversation or () if role == "user"]
        question = base_prompt or (asked[-1] if asked else None)
        if question is None and len(complaints) == before:
            complaints.add(place, f"there is no question, prompt or problem_id; fields there: {fields_of(row)}")
    continuations = cells.continuations()
    reasons = cells.finish_reasons(len(continuations))
    answer = cells.answer()
    if len(complaints) > before:
        return []
    return [
        GivenText(place, continuation, question, problem_id, answer, base_prompt, reasoning_prompt, reason, conversation)
        for continuation, reason in zip(continuations, reasons, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Cells:
    """One row, read field by field; what is wrong goes to the complaints and reads as nothing."""

    place: Place
    row: Row
    names: TextFields
    complaints: Complaints

    def value(self, field: str) -> Any:
        mapped: str | None = getattr(self.names, field)
        found, is_there = look_up(self.row, mapped or field)
        if mapped is not None and not is_there:
            self.complaints.add(self.place, f"field {mapped!r} ({field}) is missing; fields there: {fields_of(self.row)}")
        return found

    def text(self, field: str) -> str | None:
        value = self.value(field)
        if value is None or (isinstance(value, str) and value.strip()):
            return value if self._is_whole(field, value) else None
        self._wrong(field, value, "is no text" if not isinstance(value, str) else "is empty")
        return None

    def conversation(self) -> Conversation | None:
        turns = self.value("conversation")
        if turns is None:
            return None
        if not is_list(turns) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
            self._wrong("conversation", turns, "is no list of turns")
            return None
        read = tuple((turn.get("role"), _content(turn.get("content"))) for turn in turns)
        if not all(isinstance(role, str) and isinstance(content, str) for role, content in read):
            self._wrong("conversation", turns, "has a turn without a role or a text")
            return None
        if read[-1][0] == "assistant":
            self._wrong("conversation", turns, "ends with a turn of the assistant, which would be the continuation")
        return read if self._is_whole("conversation", read) else None

    def continuations(self) -> list[str | tuple[int, ...]]:
        before = len(self.complaints)
        ids = self.value("token_ids")
        if ids is not None:
            lists = ids if is_list(ids) and ids and is_list(ids[0]) else [ids]
            good = [one for number, one in enumerate(lists) if self._are_token_ids(one, number, len(lists))]
            return [tuple(map(int, one)) for one in good]
        text = self.value("text")
        if text is None:
            if len(self.complaints) == before:
                self.complaints.add(self.place, f"there is no text and no token_ids; fields there: {fields_of(self.row)}")
            return []
        texts = text if is_list(text) else [text]
        if not texts:
            self._wrong("text", text, "holds no continuation")
        return [one for number, one in enumerate(texts) if self._is_text(one, number, len(texts))]

    def finish_reasons(self, n: int) -> list[FinishReason | None]:
        value = self.value("finish_reason")
        values = list(value) if is_list(value) else [value] * n
        if n and len(values) != n:
            self._wrong("finish_reason", value, f"has {len(values)} entries for {n} continuations")
        for one in values:
            if one is not None and not (isinstance(one, str) and one in _FINISH):
                self._wrong("finish_reason", one, f"is none of {', '.join(_FINISH)}")
        return [_FINISH.get(one) if isinstance(one, str) else None for one in values]

    def answer(self) -> str | None:
        value = self.value("answer")
        if isinstance(value, Mapping):
            self._wrong("answer", value, "is no text")
        text = ", ".join(str(item) for item in value) or None if is_list(value) else None if value is None else str(value)
        return text if self._is_whole("answer", text) else None

    def _are_token_ids(self, ids: Any, number: int, n: int) -> bool:
        if not is_list(ids) or not all(map(_is_token_id, ids)):
            self._wrong("token_ids", ids, f"{_which(number, n)}is no list of token ids (whole numbers from 0)")
            return False
        if not ids:
            self.complaints.add(self.place, f"token_ids {_which(number, n)}is empty")
        return bool(ids)

    def _is_text(self, text: Any, number: int, n: int) -> bool:
        if not isinstance(text, str):
            self._wrong("text", text, f"{_which(number, n)}is no text")
            return False
        if not text:
            self.complaints.add(self.place, f"the continuation {_which(number, n)}is empty")
        return bool(text) and self._is_whole("text", text)

    def _is_whole(self, field: str, value: Any) -> bool:
        """Whether all of a text are characters. Files are checked line by line; logs hold texts within others."""
        found = lone_surrogate(value)
        if found is not None:
            self.complaints.add(self.place, f"{field} has half a character, {found[1]!r}: a lone surrogate")
        return found is None

    def _wrong(self, field: str, value: Any, what: str) -> None:
        shown = repr(value)
        self.complaints.add(self.place, f"{field} {shown if len(shown) <= 60 else shown[:57] + '...'} {what}")


def _content(content: Any) -> Any:
    """A turn's text; chats of several kinds of content write it as a list of parts."""
    if is_list(content) and content and all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text", "")) for part in content)
    return content


def _which(number: int, n: int) -> str:
    return "" if n == 1 else f"(number {number + 1} of {n}) "


def _is_token_id(value: Any) -> bool:
    """Whole numbers; pandas writes them as floats where some are missing."""
    return (type(value) is int or (isinstance(value, float) and value.is_integer())) and value >= 0
