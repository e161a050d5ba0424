"""Reading a file of given texts, whatever its format."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.given_texts import inspect_log, lm_eval, rollouts
from rrti_sgl.given_texts.fields import TextFields, given_texts
from rrti_sgl.given_texts.given import GivenText
from rrti_sgl.rows import Complaints, Place, Row, is_file, kind_of, rows_of

Rows = Callable[[Path, Complaints], Iterator[tuple[Place, Row]]]

FORMATS: dict[str, Rows] = {
    "jsonl": functools.partial(rows_of, kind="jsonl"),
    "csv": functools.partial(rows_of, kind="csv"),
    "parquet": functools.partial(rows_of, kind="parquet"),
    "lm-eval": lm_eval.rows,
    "inspect": inspect_log.rows,
    "verl": rollouts.verl,
    "trl": rollouts.trl,
    "slime": rollouts.slime,
}
AUTO = "auto"


def read_texts(
    path: Path,
    format_name: str = AUTO,
    names: TextFields | None = None,
    *,
    thoughts: bool = False,
    skipped: Complaints | None = None,
) -> list[GivenText]:
    """All continuations of a file.

    Args:
        path: the file.
        format_name: one of `FORMATS`; "auto" goes by the ending and by what the file begins with.
        names: which fields hold what.
        thoughts: put the reasoning parts of an inspect_ai log back before the answer, as `<think>`.
        skipped: where rows are noted that cannot be scored; None refuses a file with any.

    Raises:
        UsageError: no such file or format, no continuation in it, or anything wrong with a row: all of that at once.
    """
    if not is_file(path):
        raise UsageError(f"There is no file {path}.", "Give the path of a file.")
    rows = FORMATS[detect(path, format_name)]
    if rows is inspect_log.rows:
        rows = functools.partial(rows, thoughts=thoughts)
    complaints, names = Complaints() if skipped is None else skipped, names or TextFields()
    texts = [text for place, row in rows(path, complaints) for text in given_texts(place, row, names, complaints)]
    if skipped is None or not texts:
        remedy = f"{argument('fields')} says which field holds what, {argument('skip', True)} leaves them out here."
        complaints.raise_any(f"Correct or leave out these lines; {remedy}", "nothing was scored")
    if not texts:
        raise UsageError(f"{path} holds no continuation.", f"Write one JSON object a line, or see {argument('format')}.")
    return texts


def detect(path: Path, format_name: str = AUTO) -> str:
    """The format of a file.

    Raises:
        UsageError: no such format.
    """
    if format_name in FORMATS:
        return format_name
    if format_name != AUTO:
        raise UsageError(f"{argument('format', text=repr(format_name))} is unknown.", f"Use {AUTO}, {', '.join(FORMATS)}.")
    if inspect_log.is_log(path):
        return "inspect"
    row = None
    if path.suffix != ".pt":
        first = next(rows_of(path, Complaints()), None)
        row = None if first is None else first[1]
    if row is not None and lm_eval.is_sample(row):
        return "lm-eval"
    return rollouts.kind_of_rollouts(path, row) or kind_of(path)
