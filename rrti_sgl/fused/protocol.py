"""How a request steers the gate, and how the answer tells of each token. No SGLang, no torch.

A request says what it wants in `sampling_params.custom_params[KEY]`, as a mapping of numbers and strings or as a JSON text
of one; what it leaves out is as the server was started. Each emitted token's entry in `meta_info[KEY]` is one record,
base64 of packed bytes, and there only if `trace` was asked for.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from rrti_sgl import bounds
from rrti_sgl.errors import UsageError
from rrti_sgl.records import Json
from rrti_sgl.science.gates import Gate, gate_of
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.science.threshold import is_number

KEY = "rrti_guided"
"""Name of what is asked in `custom_params` and of what is told in `meta_info`."""

DEFAULTS_VARIABLE = "RRTI_GUIDED"
"""Environment variable of the server: JSON of what requests leave out."""

GATES_VARIABLE = "RRTI_GATES"
"""Environment variable of the server: gates of one's own that requests may name, `package.module:Class,...`."""


@dataclass(frozen=True, slots=True)
class Steering:
    """What a request asks of the guided model.

    Args:
        gate: by name, as the store calls it; with `gate_params` as `Gate.params` gives them.
        gate_params: of the gate.
        takeover_tokens: tokens that the reasoning model writes at a takeover.
        max_takeovers: after so many takeovers the base model goes on alone; None: no limit.
        draft_tokens: most tokens drafted in a round; None: as many as the server does.
        doubt: a draft ends where the base model's entropy exceeds it, nats; None: where one more token is not worth its
            time, by what the server has seen lately (`rrti_sgl.fused.pacing`).
        k: the gate sees the k most probable tokens of both models, as from two servers; 0: the whole vocabulary.
        trace: length of the lists that are told of each token; 0: nothing is told.
        seed: of the gates that draw positions.
        position: tokens of the solution that `input_ids` ends with; the gate counts from there.
        history: scores that the gate saw at those.
        base_input_ids: the base model's prompt, where it is another; empty: that of the request.
        given: the solution, to be scored: these tokens are drafted in place of the base model's draws.
    """

    gate: str = "divergence"
    gate_params: Mapping[str, Json] = field(default_factory=dict)
    takeover_tokens: int = 1
    max_takeovers: int | None = None
    draft_tokens: int | None = None
    doubt: float | None = None
    k: int = 0
    trace: int = 0
    seed: int = 0
    position: int = 0
    history: Sequence[float] = ()
    base_input_ids: Sequence[int] = ()
    given: Sequence[int] = ()

    def to_json(self) -> str:
        """As the value of `KEY`: what differs from the defaults, the gate's parameters among the rest."""
        told = {name: getattr(self, name) for name in _NAMES if getattr(self, name) != getattr(_PLAIN, name)}
        return json.dumps({"gate": self.gate, **dict(self.gate_params), **told})

    def make_gate(self) -> Gate:
        """The gate that is asked for.

        Raises:
            UsageError: there is none of this name, or not with these parameters.
        """
        return gate_of(self.gate, self.gate_params)

    @classmethod
    def from_json(cls, value: object, defaults: Mapping[str, Json]) -> Steering:
        """Read what came over the network, over the server's own defaults.

        A gate that is named replaces the default one, its parameters included.

        Raises:
            UsageError: names the field and its value.
        """
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise UsageError(f"{KEY} is no JSON: {error}.", "Send a mapping, or the JSON text of one.") from error
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise UsageError(f"{KEY} = {value!r} is no mapping.", "Send names with values, such as tau.")
        asked = {str(name): told for name, told in value.items()}
        gate = defaults.get("gate", _PLAIN.gate)
        if asked.get("gate", gate) != gate:
            defaults = {name: told for name, told in defaults.items() if name in _NAMES}
        asked = {**defaults, **asked}
        known = {name: asked.pop(name) for name in (*_NAMES, "gate") if name in asked}
        steering = cls(**known, gate_params=asked)
        steering._check()
        return steering

    def _check(self) -> None:
        for name, (least, most) in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and (type(value) is not int or not least <= value <= most):
                raise UsageError(f"{name} = {value!r} is no whole number from {least} to {most}.", "Correct it.")
            if value is None and getattr(_PLAIN, name) is not None:
                raise UsageError(f"{name} = None is no number.", "Leave it out.")
        if not isinstance(self.gate, str):
            raise UsageError(f"gate = {self.gate!r} is no name.", "Name a gate.")
        if self.doubt is not None and not (_is_number(self.doubt) and self.doubt >= 0):
            raise UsageError(f"doubt = {self.doubt!r} is no entropy.", "Give nats, at least 0.")
        for name, fits in (("history", _is_number), ("base_input_ids", _is_id), ("given", _is_id)):
            values = getattr(self, name)
            if not isinstance(values, list | tuple) or not all(map(fits, values)):
                raise UsageError(f"{name} is no list of numbers that fit.", "Send one, or leave it out.")
        if len(self.history) > self.position:
            message = f"history has {len(self.history)} scores of position = {self.position} tokens."
            raise UsageError(message, "Send at most one score of each token.")


_NAMES = tuple(entry.name for entry in fields(Steering) if entry.name not in ("gate", "gate_params"))
_COUNTS = {
    **dict.fromkeys(("takeover_tokens", "draft_tokens"), (1, bounds.COUNT)),
    **dict.fromkeys(("max_takeovers", "k", "trace", "position"), (0, bounds.COUNT)),
    "seed": (0, bounds.WHOLE),
}
_PLAIN = Steering()


def _is_number(value: object) -> bool:
    return is_number(value) and not math.isnan(value)  # type: ignore[arg-type]


def _is_id(value: object) -> bool:
    return type(value) is int and 0 <= value <= bounds.WHOLE


def record_type(k: int) -> np.dtype[np.void]:
    """One token's record.

    `drafted` is the number of tokens drafted in the round, on the round's first token, else 0; `kept` says whether the
    base model's draw counts (it does not in a takeover of several tokens after its first). `reasoning_token` is what
    the reasoning model drew, -1 where it did not; log-probabilities are of the emitted token, in nats. The base
    model's prompt and what of it came from its cache stand in every record.
    """
    return np.dtype(
        [
            ("fired", "u1"),
            ("kept", "u1"),
            ("drafted", "<u2"),
            ("base_prompt_tokens", "<i4"),
            ("base_cached_tokens", "<i4"),
            ("base_token", "<i4"),
            ("reasoning_token", "<i4"),
            ("score", "<f8"),
            ("base_logprob", "<f4"),
            ("reasoning_logprob", "<f4"),
            ("metrics", "<f4", (len(METRICS),)),
            ("base_ids", "<i4", (k,)),
            ("base_logprobs", "<f4", (k,)),
            ("reasoning_ids", "<i4", (k,)),
            ("reasoning_logprobs", "<f4", (k,)),
        ]
    )


def encode(records: NDArray[np.void]) -> list[str]:
    """(n,) records as elements of `meta_info[KEY]`."""
    data, size = records.tobytes(), records.dtype.itemsize
    return [base64.b64encode(data[at : at + size]).decode() for at in range(0, len(data), size)]


def decode(entries: Sequence[str], k: int) -> NDArray[np.void]:
    """The records of an answer, (n,) of `record_type(k)`.

    Raises:
        ValueError: they are of another length, or no base64.
    """
    return np.frombuffer(b"".join(base64.b64decode(entry, validate=True) for entry in entries), record_type(k))
