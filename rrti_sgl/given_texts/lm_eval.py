"""The samples of lm-evaluation-harness (`--log_samples`): `samples_TASK_TIME.jsonl`.

One line a document and filter. The continuations are `resps`, the model's own words; `filtered_resps` is what a filter
made of them, often the extracted answer alone, and stands in where a line has no `resps`. The base prompt is the context
that the model was shown, worked examples included; the question is `doc.question` where the document has one, or else the
context; the gold answer is `target`. Another field of the document: `--field question=doc.problem`. Models behind an API of
chats were shown a conversation; it is logged as JSON within JSON. The log does not say how a continuation ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrti_sgl.rows import Complaints, Place, Row, is_list, rows_of


def rows(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, row) of every document. A document is logged once for each filter; the repetitions are left out."""
    seen: set[str] = set()
    for place, line in rows_of(path, complaints):
        context, is_generation = _context(line.get("arguments"))
        if context is None:
            complaints.add(place, "the field 'arguments' holds no context; is this a samples file of lm-eval?")
            continue
        if not is_generation:
            complaints.add(place, "a loglikelihood request, in which the model wrote no text")
            continue
        responses = _texts(line["resps"] if "resps" in line else line.get("filtered_resps"))
        # Older versions do not name the filter; several answers to one document are one line.
        key = repr((line.get("doc_id", line.get("doc")), context, responses))
        if "resps" in line and key in seen:
            continue
        seen.add(key)
        yield place, {**line, **_fields(line, context, responses)}


def is_sample(row: Row) -> bool:
    """Whether a row looks like a line of such a file."""
    return "arguments" in row and ("resps" in row or "filtered_resps" in row)


def _fields(line: Row, context: str | list[Any], responses: Any) -> dict[str, Any]:
    doc = line.get("doc")
    question = doc.get("question") if isinstance(doc, Mapping) else None
    whole = context if isinstance(context, str) else None
    return {
        "text": responses,
        "prompt": whole,
        "conversation": None if whole is not None else context,
        "question": question if isinstance(question, str) else whole,
        "answer": line.get("target"),
    }


def _context(arguments: Any) -> tuple[str | list[Any] | None, bool]:
    """The context of the first request, and whether the request asks for a generation: its second argument is a record.

    Older files have `[[context, {...}]]`, newer ones `{"gen_args_0": {"arg_0": context, "arg_1": {...}}}`.
    """
    listed: Any = list(arguments.values()) if isinstance(arguments, Mapping) else arguments
    first = listed[0] if is_list(listed) and len(listed) else None
    values: Any = list(first.values()) if isinstance(first, Mapping) else first
    if not is_list(values) or not len(values):
        return None, False
    return _prompt(values[0]), len(values) == 1 or isinstance(values[1], Mapping)


def _prompt(written: Any) -> str | list[Any] | None:
    """A context as text, or the turns of a conversation: a list of them, as JSON, or as JSON in a list of one."""
    if is_list(written) and len(written) == 1 and isinstance(written[0], str):
        written = written[0]
        try:
            parsed = json.loads(written)
        except (ValueError, RecursionError):
            return str(written)
        return parsed if _are_turns(parsed) else str(written)
    return written if isinstance(written, str) or _are_turns(written) else None


def _are_turns(value: Any) -> bool:
    return is_list(value) and len(value) > 0 and all(isinstance(turn, Mapping) and "role" in turn for turn in value)


def _texts(responses: Any) -> Any:
    """`[["a", "b"]]` (one list for each request) or `["a", "b"]` as one list of texts."""
    if not is_list(responses):
        return responses
    return [text for one in responses for text in (one if is_list(one) else [one])]
