"""Evaluation logs of inspect_ai: `.json`, or `.eval`, a zip archive of the same samples.

A sample gives its `input` as the question, its `target` as the gold answer and the choices of its `output` as
continuations. Only samples of one question and one answer can be scored: a conversation of several turns, a call of a tool
or a reasoning part that was cut out of the text do not say which tokens the model read and wrote. The log does not hold the
rendered prompt either; the templates of the run make it.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts.complaints import Complaints
from rrti_sgl.given_texts.fields import Place, Row

_ATTACHMENT = "attachment://"


def rows(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, row) of every sample that is one question and its answers.

    Raises:
        UsageError: the file is no log, or is compressed in a way that Python cannot read.
    """
    for number, sample in enumerate(_samples(path), 1):
        name = f"{sample.get('id')!r}, epoch {sample.get('epoch', 1)}" if isinstance(sample, Mapping) else str(number)
        place = f"{path}, sample {name}"
        try:
            yield place, {**sample, **_fields(sample)}
        except _NotScorableError as error:
            complaints.add(place, str(error))


class _NotScorableError(Exception):
    """Why a sample is not one question with its answers."""


def _samples(path: Path) -> Iterator[Any]:
    try:
        if zipfile.is_zipfile(path):
            yield from _archived(path)
            return
        log = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{path} is no log of inspect_ai ({error}).", "See --format.") from error
    if not isinstance(log, dict) or not isinstance(log.get("samples"), list):
        raise UsageError(f"{path} is no log of inspect_ai: it has no list of samples.", "See --format.")
    yield from log["samples"]


def _archived(path: Path) -> Iterator[Any]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(name for name in archive.namelist() if name.startswith("samples/") and name.endswith(".json")):
            try:
                content = archive.read(name)
            except NotImplementedError as error:
                raise UsageError(
                    f"{path} is compressed in a way that this Python cannot read ({error}).",
                    "Convert it: inspect log convert LOG --to json --output-dir FOLDER",
                ) from error
            yield json.loads(content)


def _fields(sample: Any) -> dict[str, Any]:
    if not isinstance(sample, Mapping):
        raise _NotScorableError(f"a {type(sample).__name__}, not an object")
    if sample.get("error"):
        message = sample["error"].get("message", "") if isinstance(sample["error"], Mapping) else sample["error"]
        raise _NotScorableError(f"the sample failed: {str(message)[:80]}")
    attachments = sample.get("attachments") or {}
    turns = [message for message in _objects("messages", sample.get("messages")) if message.get("role") == "assistant"]
    if len(turns) > 1:
        raise _NotScorableError(f"{len(turns)} turns of the assistant; only single answers can be scored")
    output = sample.get("output")
    choices = _objects("output.choices", output.get("choices")) if isinstance(output, Mapping) else []
    if not choices:
        raise _NotScorableError("the field 'output.choices' is missing or empty")
    reasons = [choice.get("stop_reason") for choice in choices]
    return {
        "question": _question(sample.get("input"), attachments),
        "answer": _target(sample.get("target")),
        "text": [_answer_text(choice.get("message"), attachments) for choice in choices],
        "finish_reason": [None if reason == "unknown" else reason for reason in reasons],
        "prompt": None,
    }


def _question(given: Any, attachments: Mapping[str, str]) -> str:
    if isinstance(given, list):
        messages = _objects("input", given)
        if len(messages) != 1 or messages[0].get("role") != "user":
            roles = ", ".join(str(message.get("role")) for message in messages)
            raise _NotScorableError(f"the input is a conversation ({roles}); only one question can be scored")
        given = _text(messages[0].get("content"), attachments)
    if not isinstance(given, str):
        raise _NotScorableError("the field 'input' is missing or no text")
    return _attached(given, attachments)


def _target(target: Any) -> str | None:
    if isinstance(target, list):
        if len(target) > 1:
            raise _NotScorableError(f"{len(target)} targets; a solution is graded by one")
        target = target[0] if target else None
    return str(target) if target not in (None, "") else None


def _answer_text(message: Any, attachments: Mapping[str, str]) -> str:
    if not isinstance(message, Mapping):
        raise _NotScorableError("a choice has no message")
    if message.get("tool_calls"):
        raise _NotScorableError("the answer calls a tool")
    return _text(message.get("content"), attachments)


def _text(content: Any, attachments: Mapping[str, str]) -> str:
    """The text of a message: a string, or a list of parts that are all text."""
    if isinstance(content, str):
        return _attached(content, attachments)
    if not isinstance(content, list):
        raise _NotScorableError("a message has no content")
    parts = _objects("content", content)
    if others := sorted({str(part.get("type")) for part in parts} - {"text"}):
        raise _NotScorableError(f"a message has parts beside text ({', '.join(others)})")
    return "".join(_attached(str(part.get("text", "")), attachments) for part in parts)


def _objects(field: str, value: Any) -> list[Mapping[str, Any]]:
    """A list of objects; nothing is an empty one."""
    found = value or []
    if not isinstance(found, list) or not all(isinstance(item, Mapping) for item in found):
        raise _NotScorableError(f"the field {field!r} is no list of objects")
    return found


def _attached(text: str, attachments: Mapping[str, str]) -> str:
    """Long texts are stored once for each sample, and referred to."""
    return attachments.get(text.removeprefix(_ATTACHMENT), text) if text.startswith(_ATTACHMENT) else text
