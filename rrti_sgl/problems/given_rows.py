"""Problems that a Python caller has as rows in memory: lists of dicts, tables of pandas, polars and pyarrow, data sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.rows import Complaints, Place, Row, json_value, unstorable

PREFIX = "rows:"


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows, under a name that follows from what is in them: a run of other rows is another run."""

    name: str
    rows: list[Any]

    @classmethod
    def of(cls, given: Any) -> GivenRows:
        """The rows of a table, or of anything that gives one mapping after the other.

        Raises:
            UsageError: it gives no rows.
        """
        found = given
        if hasattr(given, "to_pylist"):  # pyarrow
            found = given.to_pylist()
        elif hasattr(given, "to_dicts"):  # polars
            found = given.to_dicts()
        elif hasattr(given, "iterrows"):  # pandas
            found = given.to_dict("records")
        if not isinstance(found, Iterable) or isinstance(found, str | bytes | Mapping):
            raise UsageError(
                f"{argument('problems')} holds no rows but a {type(given).__name__}.",
                "Give a name, a file, a list of dicts, or a table of pandas, polars, pyarrow or datasets.",
            )
        rows = [_plain(row) for row in found]
        try:
            content = json.dumps([json_value(row) for row in rows], sort_keys=True)
        except (RecursionError, ValueError) as error:  # a list that holds itself, an integer of thousands of digits
            raise UsageError(
                f"{argument('problems')} holds what is no JSON: {error}.", "Leave out the field that holds it."
            ) from error
        return cls(PREFIX + hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()[:12], rows)

    def placed(self, complaints: Complaints) -> Iterator[tuple[Place, Row]]:
        """(place, row) as files give them; what is no row is noted."""
        for number, row in enumerate(self.rows, 1):
            if not isinstance(row, Mapping):
                complaints.add(f"row {number}", f"a {type(row).__name__}, not a dict")
            elif (fault := unstorable(row)) is not None:
                complaints.add(f"row {number}", *fault)
            else:
                yield f"row {number}", row


def _plain(row: Any) -> Any:
    """A row without arrays: they become lists, and numbers of theirs Python's."""
    if not isinstance(row, Mapping):
        return row
    return {str(name): value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
