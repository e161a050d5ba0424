"""How a request asks for exact numbers and how the answer carries them. No SGLang, no torch.

The question travels in `sampling_params.custom_params`, whose values may be numbers and strings: the ids, one row of m
for each position, as base64 of int32. The answer is one JSON object in a list, SGLang's form for customised information.

A position is named by the index of the token whose distribution it is: `first` = len(input_ids) is the first output token.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrti_sgl.records import IntArray

KEY = "rrti_exact"
"""Name of the question in `custom_params` and of the answer in `meta_info`."""

COLUMNS = 2  # entropy and log-normaliser stand before the named log-probabilities
_MOST = 2**26  # numbers of one answer: 256 MiB


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Exact numbers from the token at index `first` on; row j of `ids` (rows, m) belongs to the token `first` + j."""

    first: int
    ids: IntArray

    def to_json(self) -> dict[str, Any]:
        """As the value of `KEY` in `custom_params`."""
        ids = np.ascontiguousarray(self.ids, dtype="<i4")
        return {"first": self.first, "m": int(ids.shape[1]), "ids": base64.b64encode(ids.tobytes()).decode()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Question:
        """Raises KeyError, TypeError or ValueError for anything but what `to_json` makes."""
        first, m = value["first"], value["m"]
        if type(first) is not int or type(m) is not int or not 1 <= first <= _MOST or m < 0:
            raise ValueError(f"first = {first!r} and m = {m!r} must be integers, at least 1 and 0, first at most {_MOST}")
        ids = np.frombuffer(base64.b64decode(value["ids"], validate=True), dtype="<i4").astype(np.int32)
        return cls(first, ids.reshape(-1, m) if m else np.empty((0, 0), np.int32))

    @classmethod
    def nothing(cls) -> Question:
        """In place of a question that cannot be read."""
        return cls(1, np.empty((0, 0), np.int32))

    def check_size(self, n: int) -> None:
        """Raises ValueError: the numbers of n positions are more than one answer holds."""
        if n * (COLUMNS + self.ids.shape[1]) > _MOST:
            raise ValueError(f"{n} positions of {self.ids.shape[1]} named ids are more than {_MOST} numbers")


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """`values` (n, 2 + m) float32: entropy, log-normaliser, m named log-probabilities (NaN beyond the named rows)."""

    values: NDArray[np.float32]

    def to_json(self) -> dict[str, Any]:
        """As one element of `meta_info[KEY]`."""
        values = np.ascontiguousarray(self.values, dtype="<f4")
        return {"shape": list(values.shape), "values": base64.b64encode(values.tobytes()).decode()}


class NoAnswerError(Exception):
    """The server sent no exact numbers; the message says why."""


def read_answer(meta: Mapping[str, Any]) -> Answer:
    """The exact numbers in an answer's `meta_info`.

    Raises:
        NoAnswerError: there are none, or the server met a fault, or what came cannot be read.
    """
    found = meta.get(KEY) or []
    if not found:
        raise NoAnswerError("the server does not have the plugin, or it does not run here")
    try:
        [value] = found
        if "error" in value:
            raise NoAnswerError(str(value["error"]))
        flat = np.frombuffer(base64.b64decode(value["values"], validate=True), dtype="<f4")
        return Answer(flat.reshape(value["shape"]))
    except (KeyError, TypeError, ValueError) as error:
        raise NoAnswerError(f"unreadable: {type(error).__name__}: {error}") from error
