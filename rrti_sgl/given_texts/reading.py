"""Reading a file of given texts, whatever its format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts import inspect_log, jsonl, lm_eval, parquet
from rrti_sgl.given_texts.complaints import Complaints
from rrti_sgl.given_texts.fields import Place, Row, TextFields, given_texts
from rrti_sgl.given_texts.given import GivenText

Rows = Callable[[Path, Complaints], Iterator[tuple[Place, Row]]]

FORMATS: dict[str, Rows] = {
    "jsonl": jsonl.rows,
    "parquet": parquet.rows,
    "lm-eval": lm_eval.rows,
    "inspect": inspect_log.rows,
}
AUTO = "auto"
_BY_ENDING = {".parquet": "parquet", ".json": "inspect", ".eval": "inspect"}


def read_texts(path: Path, format_name: str = AUTO, names: TextFields | None = None) -> list[GivenText]:
    """All continuations of a file.

    Args:
        path: the file.
        format_name: one of `FORMATS`; "auto" goes by the ending and, for JSON Lines, by the fields of the first line.
        names: which fields hold what.

    Raises:
        UsageError: no such file or format, no continuation in it, or anything wrong with a line: all of that at once.
    """
    if not path.is_file():
        raise UsageError(f"There is no file {path}.", "Give --input the path of a file.")
    rows = FORMATS[detect(path, format_name)]
    complaints, names = Complaints(), names or TextFields()
    texts = [text for place, row in rows(path, complaints) for text in given_texts(place, row, names, complaints)]
    complaints.raise_any("Correct or leave out these lines; --field NAME=FIELD says which field holds what.")
    if not texts:
        raise UsageError(f"{path} holds no continuation.", "Write one JSON object a line, or see --format.")
    return texts


def detect(path: Path, format_name: str = AUTO) -> str:
    """The format of a file.

    Raises:
        UsageError: no such format.
    """
    if format_name in FORMATS:
        return format_name
    if format_name != AUTO:
        raise UsageError(f"--format {format_name!r} is unknown.", f"Use {AUTO}, {', '.join(FORMATS)}.")
    if ending := _BY_ENDING.get(path.suffix.lower()):
        return ending
    first = next(jsonl.rows(path, Complaints()), None)
    return "lm-eval" if first is not None and lm_eval.is_sample(first[1]) else "jsonl"
