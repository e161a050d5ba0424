"""The samples of lm-evaluation-harness (`--log_samples`): `samples_TASK_TIME.jsonl`.

One line a document and filter. The continuations are `resps`, the model's own words; `filtered_resps` is what a filter
made of them, often the extracted answer alone, and stands in where a line has no `resps`. The base prompt is the context
that the model was shown, worked examples included; the question is `doc.question` where the document has one, or else the
context; the gold answer is `target`. Another field of the document: `--field question=doc.problem`. The log does not say
how a continuation ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rrti_sgl.given_texts import jsonl
from rrti_sgl.given_texts.complaints import Complaints
from rrti_sgl.given_texts.fields import Place, Row


def rows(path: Path, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
    """(place, row) of every document. A document is logged once for each filter; the repetitions are left out."""
    seen: set[tuple[str, str]] = set()
    for place, line in jsonl.rows(path, complaints):
        context, is_generation = _context(line.get("arguments"))
        if context is None:
            complaints.add(place, "the field 'arguments' holds no context; is this a samples file of lm-eval?")
            continue
        if not is_generation:
            complaints.add(place, "a loglikelihood request, in which the model wrote no text")
            continue
        responses = _texts(line["resps"] if "resps" in line else line.get("filtered_resps"))
        if "doc_id" in line and "filter" in line:
            key = (repr(line["doc_id"]), repr((context, responses)))
            if key in seen:
                continue
            seen.add(key)
        yield place, {**line, **_fields(line, context, responses)}


def is_sample(row: Row) -> bool:
    """Whether a row looks like a line of such a file."""
    return "arguments" in row and ("resps" in row or "filtered_resps" in row)


def _fields(line: Row, context: str, responses: Any) -> dict[str, Any]:
    doc = line.get("doc")
    question = doc.get("question") if isinstance(doc, Mapping) else None
    return {
        "text": responses,
        "prompt": context,
        "question": question if isinstance(question, str) else context,
        "answer": line.get("target"),
    }


def _context(arguments: Any) -> tuple[str | None, bool]:
    """The context of the first request, and whether the request asks for a generation: its second argument is a record.

    Older files have `[[context, {...}]]`, newer ones `{"gen_args_0": {"arg_0": context, "arg_1": {...}}}`.
    """
    first = next(iter(arguments.values()), None) if isinstance(arguments, Mapping) else arguments and arguments[0]
    values = list(first.values()) if isinstance(first, Mapping) else first
    if not isinstance(values, list) or not values or not isinstance(values[0], str):
        return None, False
    return values[0], len(values) == 1 or isinstance(values[1], Mapping)


def _texts(responses: Any) -> Any:
    """`[["a", "b"]]` (one list for each request) or `["a", "b"]` as one list of texts."""
    if not isinstance(responses, list):
        return responses
    return [text for one in responses for text in (one if isinstance(one, list) else [one])]
