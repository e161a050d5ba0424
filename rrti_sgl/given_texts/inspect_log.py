"""Evaluation logs of inspect_ai: `.json`, or `.eval`, a zip archive of the same samples.

A sample gives its `input` as the question, or as a conversation where it has several turns, its `target` as the gold answer
and the choices of its `output` as continuations. Only samples of one answer can be scored: several turns of the assistant
or a call of a tool do not say which tokens the model read and wrote. The log does not hold the rendered prompt either; the
templates of the run make it, or the tokenizer's own where there is a conversation. A reasoning part was cut out of what the
model wrote; it is put back on request, as `<think>` and lines of its own, which is how Qwen3 and DeepSeek-R1 write it.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.rows import Complaints, Place, Row
from rrti_sgl.rows.opening import DAMAGE, member_bytes, open_archive, open_text

_ATTACHMENT = "attachment://"
_OF_LOGS = frozenset(("samples", "eval"))  # what every log has, and no row of another format


def is_log(path: Path) -> bool:
    """Whether a file looks like such a log: an archive of samples, or a JSON object with a list of them."""
    if path.suffix.lower() == ".eval":
        return True
    with contextlib.suppress(UnicodeError, *DAMAGE):  # what is damaged is told when it is read
        if zipfile.is_zipfile(path):
            with open_archive(path) as archive:
                return any(_is_sample(name) for name in archive.namelist())
        if path.suffix.lower() == ".json":
            with open_text(path) as text:
                return _begins_log(next((line for line in text if line.strip()), ""))
    return False


def _begins_log(line: str) -> bool:
    """Whether a file of JSON that begins with this line is a log, and no list of rows, or rows of a line each."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return not line.lstrip().startswith("[")
    return isinstance(row, dict) and not _OF_LOGS.isdisjoint(row)


def rows(path: Path, complaints: Complaints, thoughts: bool = False) -> Iterator[tuple[Place, Row]]:
    """(place, row) of every sample that is one prompt and its answers.

    Args:
        path: the log.
        complaints: where samples go that are not.
        thoughts: put reasoning parts back before the answer.

    Raises:
        UsageError: the file is no log.
    """
    for number, sample in enumerate(_samples(path, complaints), 1):
        name = f"{sample.get('id')!r}, epoch {sample.get('epoch', 1)}" if isinstance(sample, Mapping) else str(number)
        place = f"{path}, sample {name}"
        try:
            fields = _fields(sample, thoughts)
            yield place, {**sample, **fields}
        except _NotScorableError as error:
            complaints.add(place, str(error))


class _NotScorableError(Exception):
    """Why a sample is not one question with its answers."""


def _samples(path: Path, complaints: Complaints) -> Iterator[Any]:
    try:
        if zipfile.is_zipfile(path):
            yield from _archived(path, complaints)
            return
        with open_text(path) as text:
            log = json.load(text)
    except (ValueError, RecursionError, *DAMAGE) as error:
        raise UsageError(f"{path} is no log of inspect_ai ({error}).", f"See {argument('format')}.") from error
    if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
        raise UsageError(f"{path} is no log of inspect_ai: it has no list of samples.", f"See {argument('format')}.")
    yield from log["samples"]


def _archived(path: Path, complaints: Complaints) -> Iterator[Any]:
    with open_archive(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            if not _is_sample(member.filename):
                continue
            try:
                yield json.loads(member_bytes(archive, member))
            except (ValueError, RecursionError, *DAMAGE) as error:
                complaints.add(f"{path}, {member.filename}", f"cannot be read ({error})")


def _is_sample(name: str) -> bool:
    return name.startswith("samples/") and name.endswith(".json")


def _fields(sample: Any, thoughts: bool) -> dict[str, Any]:
    if not isinstance(sample, Mapping):
        raise _NotScorableError(f"a {type(sample).__name__}, not an object")
    if sample.get("error"):
        message = sample["error"].get("message", "") if isinstance(sample["error"], Mapping) else sample["error"]
        raise _NotScorableError(f"the sample failed: {str(message)[:80]}")
    attachments = sample.get("attachments")
    attachments = attachments if isinstance(attachments, Mapping) else {}
    turns = [message for message in _objects("messages", sample.get("messages")) if message.get("role") == "assistant"]
    output = sample.get("output")
    choices = _objects("output.choices", output.get("choices")) if isinstance(output, Mapping) else []
    if not choices:
        raise _NotScorableError("the field 'output.choices' is missing or empty")
    question, conversation = _prompt(sample.get("input"), attachments)
    asked = sum(turn["role"] == "assistant" for turn in conversation or ())
    if len(turns) > asked + 1:
        raise _NotScorableError(f"{len(turns) - asked} turns of the assistant; only single answers can be scored")
    return {
        "question": question,
        "conversation": conversation,
        "answer": _target(sample.get("target")),
        "text": [_answer_text(choice.get("message"), attachments, thoughts) for choice in choices],
        "finish_reason": [_finish_reason(choice.get("stop_reason")) for choice in choices],
        "prompt": None,
    }


def _finish_reason(reason: Any) -> Any:
    if reason == "content_filter":
        raise _NotScorableError("the answer was filtered (content_filter)")
    return None if reason == "unknown" else reason


def _prompt(given: Any, attachments: Mapping[str, str]) -> tuple[str, list[dict[str, str]] | None]:
    """(question, conversation); the conversation is None where the input is one question."""
    if isinstance(given, list):
        turns = [
            {"role": str(message.get("role")), "content": _text(message.get("content"), attachments)}
            for message in _objects("input", given)
        ]
        asked = [turn["content"] for turn in turns if turn["role"] == "user"]
        if not asked or {turn["role"] for turn in turns} - {"system", "user", "assistant"} or turns[-1]["role"] != "user":
            roles = ", ".join(turn["role"] for turn in turns)
            raise _NotScorableError(f"the input is no conversation that ends with a question ({roles})")
        return asked[-1], turns if len(turns) > 1 else None
    if not isinstance(given, str):
        raise _NotScorableError("the field 'input' is missing or no text")
    return _attached(given, attachments), None


def _target(target: Any) -> str | None:
    if isinstance(target, list):
        if len(target) > 1:
            raise _NotScorableError(f"{len(target)} targets; a solution is graded by one")
        target = target[0] if target else None
    return str(target) if target not in (None, "") else None


def _answer_text(message: Any, attachments: Mapping[str, str], thoughts: bool) -> str:
    if not isinstance(message, Mapping):
        raise _NotScorableError("a choice has no message")
    if message.get("tool_calls"):
        raise _NotScorableError("the answer calls a tool")
    return _text(message.get("content"), attachments, thoughts)


def _text(content: Any, attachments: Mapping[str, str], thoughts: bool = False) -> str:
    """The text of a message: a string, or a list of parts that are text, and reasoning where that is asked for."""
    if isinstance(content, str):
        return _attached(content, attachments)
    if not isinstance(content, list):
        raise _NotScorableError("a message has no content")
    parts = _objects("content", content)
    if others := sorted({str(part.get("type")) for part in parts} - {"text", "reasoning"}):
        raise _NotScorableError(f"a message has parts beside text ({', '.join(others)})")
    return "".join(_part(part, attachments, thoughts) for part in parts)


def _part(part: Mapping[str, Any], attachments: Mapping[str, str], thoughts: bool) -> str:
    if part.get("type") == "text":
        return _attached(str(part.get("text", "")), attachments)
    if not thoughts:
        raise _NotScorableError(f"a message has parts beside text (reasoning); {argument('thoughts', True)} puts them back")
    if part.get("redacted") or not part.get("reasoning"):
        raise _NotScorableError("the reasoning is not in the log (redacted)")
    return f"<think>\n{_attached(str(part['reasoning']), attachments)}\n</think>\n\n"


def _objects(field: str, value: Any) -> list[Mapping[str, Any]]:
    """A list of objects; nothing is an empty one."""
    found = value or []
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise _NotScorableError(f"the field {field!r} is no list of objects")
    return found


def _attached(text: str, attachments: Mapping[str, str]) -> str:
    """Long texts are stored once for each sample, and referred to."""
    return str(attachments.get(text.removeprefix(_ATTACHMENT), text)) if text.startswith(_ATTACHMENT) else text
