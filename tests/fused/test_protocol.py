"""What a request may ask, what is refused by name, and the records of tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rrti_sgl.decoding.fused import as_data
from rrti_sgl.errors import UsageError
from rrti_sgl.fused.protocol import Steering, decode, encode, record_type
from rrti_sgl.science.deferral import DeferralGate
from rrti_sgl.science.gates import (
    AlwaysGate,
    DivergenceGate,
    EarlyGate,
    EntropyGate,
    NeverGate,
    RandomGate,
    ThresholdGate,
    ThresholdRule,
    gate_of,
    load_gate,
)
from rrti_sgl.science.matched import PositionGate, TokenGate

RULE = ThresholdRule(0.4, 1.5, 8, "partial")
GATES = [
    *(DivergenceGate("js", RULE), EntropyGate(RULE), RandomGate(0.2), EarlyGate(3.5), AlwaysGate()),
    *(PositionGate([0, 4], [0.5, 0.1]), NeverGate("ce"), NeverGate()),
    *(*(DeferralGate(rule, 0.25) for rule in ("chow", "difference", "opt", "token")), TokenGate([7, 3], [0.5, 0.25])),
]


class Own(ThresholdGate):
    """A gate of somebody's, with a parameter that the store calls otherwise."""

    name = "own"

    def __init__(self, threshold):
        super().__init__(ThresholdRule(threshold))

    def signal(self, steps):
        return np.zeros(len(steps.positions))


@pytest.mark.parametrize("gate", GATES, ids=lambda gate: gate.name)
def test_a_gate_is_its_name_and_parameters(gate):
    again = gate_of(gate.name, json.loads(json.dumps(gate.params())))
    assert (type(again), again.params(), again.rule) == (type(gate), gate.params(), gate.rule)


def test_a_gate_of_one_s_own_is_told_by_what_it_was_made_of():
    """And not by what it stores, which its constructor may not take."""
    spec = f"{__name__}:Own"
    assert as_data(load_gate(spec, {"threshold": 0.25})) == (spec, {"threshold": 0.25})
    with pytest.raises(UsageError, match="The gate own is not made of a name and parameters alone"):
        as_data(Own(0.25))
    assert as_data(DivergenceGate("js", ThresholdRule(0.5)))[0] == "divergence"


def test_what_is_sent_is_what_is_read():
    sent = Steering("entropy", {"tau": 0.5}, 3, 9, 4, 0.3, 20, 5, 77, 12, (0.5, 1.5), (3, 4, 5))
    read = Steering.from_json(sent.to_json(), {})
    assert read == Steering(**{**{name: getattr(sent, name) for name in Steering.__slots__}, "history": [0.5, 1.5],
                               "base_input_ids": [3, 4, 5]})  # fmt: skip


def test_a_mapping_will_do_and_the_server_s_own_stand_behind_it():
    defaults = {"gate": "divergence", "metric": "kl", "tau": 0.7}
    assert Steering.from_json(None, defaults).gate_params == {"metric": "kl", "tau": 0.7}
    assert Steering.from_json({"tau": 0.2}, defaults).gate_params == {"metric": "kl", "tau": 0.2}
    assert Steering.from_json({"gate": "divergence"}, {"tau": 0.7}).gate_params == {"tau": 0.7}  # which it was anyway
    other = Steering.from_json({"gate": "random", "rho": 0.1}, {**defaults, "trace": 4})
    assert (other.gate_params, other.trace) == ({"rho": 0.1}, 4)


COUNTS = ("takeover_tokens", "max_takeovers", "draft_tokens", "k", "trace", "seed", "position")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        *(({name: -1}, name) for name in COUNTS),
        *(({name: 10**23}, name) for name in COUNTS),
        ({"history": [0.1] * 3, "position": 2}, "history"),
        ({"history": [10**400], "position": 2}, "history"),
        ({"doubt": 10**400}, "doubt"),
        ({"base_input_ids": [10**23]}, "base_input_ids"),
        ({"trace": "5"}, "trace"),
        ({"trace": True}, "trace"),
        ({"k": None}, "k"),
        ({"takeover_tokens": 0}, "takeover_tokens"),
        ({"doubt": float("nan")}, "doubt"),
        ({"doubt": "x"}, "doubt"),
        ({"gate": 5}, "gate"),
        ({"history": [1, "x"]}, "history"),
        ({"base_input_ids": [1.5]}, "base_input_ids"),
        ({"base_input_ids": 7}, "base_input_ids"),
        ("{", "JSON"),
        ([1], "mapping"),
        ("[1]", "mapping"),
    ],
)
def test_nonsense_is_refused_by_name(asked, field):
    with pytest.raises(UsageError, match=field):
        Steering.from_json(asked, {})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gate": "nobody"}, "nobody"),
        ({}, "tau"),
        ({"tau": "high"}, "tau"),
        ({"tau": 0.5, "metric": "wit"}, "wit"),
        ({"tau": 0.5, "colour": 1}, "colour"),
        ({"tau": 10**400}, "tau"),
        ({"tau": 0.5, "lambda": 10**400}, "lambda"),
        ({"tau": 0.5, "window": 10**9}, "window"),
        ({"gate": "early", "horizon": 1e308}, "horizon"),
        ({"gate": "position", "edges": [0, 10**23], "rates": [0, 1]}, "edges"),
        ({"gate": "random", "rho": 2}, "rho"),
        ({"gate": "random", "tau": 2}, "tau"),
        ({"gate": "entropy", "tau": 1, "metric": "ce"}, "ce"),
    ],
)
def test_gates_that_cannot_be_made_say_why(asked, said):
    with pytest.raises(UsageError, match=said):
        Steering.from_json(asked, {}).make_gate()


def test_records_survive_the_wire():
    records = np.zeros(3, record_type(4))
    records["score"], records["base_ids"][1] = [0.25, np.inf, np.nan], [4, 3, 2, 1]
    found = decode(encode(records), 4)
    assert found.tobytes() == records.tobytes()
    with pytest.raises(ValueError, match="buffer size"):
        decode(encode(records[:1]), 5)
