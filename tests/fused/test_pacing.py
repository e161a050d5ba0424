"""Drafts end where one more token is worth less than its step, by the costs and takeovers that were seen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrti_sgl.fused.pacing import FIRST_LENGTH, FIRST_ROUNDS, Line, Pace
from rrti_sgl.science.gates import RandomGate

SURE, DOUBTFUL = 0.0, 2.0  # nats


class Server:
    """Rounds of sequences whose doubtful tokens are changed so often; steps and verifications take so long."""

    def __init__(self, n: int, step: float, verify: float, of_token: float = 0.0, doubtful: float = 0.1) -> None:
        self.n, self.step, self.verify, self.of_token, self.doubtful = n, step, verify, of_token, doubtful
        self.gate, self.firing = RandomGate(0.8), 0.8
        self.now, self.kept = 0.0, 0
        self.pace = Pace(lambda: self.now)
        self.random = np.random.default_rng(0)

    def round(self, most: int = 32) -> tuple[list[int], list[list[float]]]:
        """Lengths and entropies of the drafts of one round."""
        self.pace.begin([self.pace.changes.of(self.gate)] * self.n)
        self.pace.stepping()
        entropies: list[list[float]] = [[] for _ in range(self.n)]
        places = np.arange(self.n, dtype=np.int32)
        while len(places):
            self.now += self.step
            drawn = np.where(self.random.random(len(places)) < self.doubtful, DOUBTFUL, SURE)
            for place, entropy in zip(places, drawn, strict=True):
                entropies[place].append(float(entropy))
            may = np.array([len(entropies[place]) < most for place in places])
            going = self.pace.going_on(places, drawn, may)
            assert not (going & ~may).any()
            places = places[going]
        lengths = [len(found) for found in entropies]
        self.now += self.verify + self.of_token * sum(lengths)
        kept = [
            next((at + 1 for at, entropy in enumerate(found) if self.changes(entropy)), len(found)) for found in entropies
        ]
        asked = [
            (np.array(found[:n]), np.array([at + 1 == n and n < len(found) for at in range(n)], np.bool_))
            for found, n in zip(entropies, kept, strict=True)
        ]
        self.kept += sum(kept)
        self.pace.end(sum(lengths), asked, sum(kept))
        return lengths, entropies

    def changes(self, entropy: float) -> bool:
        """Whether a takeover changes a token."""
        return entropy == DOUBTFUL and self.random.random() < self.firing

    def lengths(self, rounds: int = 200, most: int = 32) -> float:
        """Mean length of drafts once much was seen."""
        for _ in range(rounds):
            self.round(most)
        return float(np.mean([self.round(most)[0] for _ in range(50)]))


def test_what_one_gate_changes_says_nothing_of_another() -> None:
    server = Server(1, 1, 5, doubtful=0.3)
    often = server.lengths()
    server.gate, server.firing = RandomGate(0.05), 0.05
    rarely = server.lengths()
    server.gate, server.firing = RandomGate(0.8), 0.8
    assert server.lengths(rounds=0) < 1.2 * often < 0.6 * rarely


def test_nothing_is_known_at_first() -> None:
    server = Server(4, 1, 1, doubtful=0)
    assert [server.round()[0] for _ in range(FIRST_ROUNDS)] == [[FIRST_LENGTH] * 4] * FIRST_ROUNDS


def test_the_dearer_the_verification_the_longer_the_drafts() -> None:
    found = [Server(1, 1, verify).lengths() for verify in (0.1, 5, 100)]
    assert all(1.1 * short < long for short, long in pairwise(found))


def test_what_is_never_changed_is_drafted_to_the_end() -> None:
    assert Server(3, 1, 1, doubtful=0).lengths() == 32
    assert Server(3, 1, 1, doubtful=0).lengths(most=5) == 5


def test_a_draft_ends_at_a_doubtful_token_and_others_go_on() -> None:
    server = Server(8, 0.5, 40, of_token=0.4)
    server.lengths()
    ended = [found for _ in range(40) for found in server.round()[1] if len(found) < 32]
    by_doubt = [found for found in ended if found[-1] == DOUBTFUL]
    assert len(by_doubt) > 0.6 * len(ended)
    lengths = server.round()[0]
    assert min(lengths) < max(lengths)


@pytest.mark.parametrize(("verify", "of_token"), [(1.0, 0.0), (10.0, 0.0), (2.0, 0.5)])
def test_it_is_about_as_cheap_as_the_best_fixed_length(verify: float, of_token: float) -> None:
    def cost(fixed: int | None) -> float:
        """Seconds a kept token."""
        server = Server(4, 1.0, verify, of_token, doubtful=0.05)
        if fixed is not None:
            server.pace.going_on = lambda places, entropies, may: may  # type: ignore[method-assign]
        for _ in range(100):
            server.round(fixed or 32)
        start, server.kept = server.now, 0
        for _ in range(200):
            server.round(fixed or 32)
        return (server.now - start) / server.kept

    best = min(cost(length) for length in (1, 2, 4, 6, 8, 12, 16, 24, 32))
    assert cost(None) < 1.05 * best


@given(
    st.floats(0, 10),
    st.floats(0.01, 10),
    st.lists(st.integers(1, 200), min_size=20, max_size=60).filter(lambda x: len(set(x)) > 5),
)
def test_a_line_is_found_where_sizes_vary(fixed: float, of_each: float, sizes: list[int]) -> None:
    line = Line()
    for items in sizes:
        line.add(items, fixed + of_each * items)
    found, slope = line.parts
    assert 0 <= found <= fixed + 1e-6
    weights = 0.995 ** np.arange(len(sizes))[::-1]
    mean = np.average(sizes, weights=weights)
    assert found + slope * mean == pytest.approx(fixed + of_each * mean)


def test_a_line_is_found_where_sizes_hardly_vary_as_far_as_noise_lets_it() -> None:
    random = np.random.default_rng(0)
    slopes = {}
    for noise in (0.01, 1.0):
        line = Line()
        for items in random.integers(240, 270, size=300):
            line.add(items, (100 + 0.2 * items) * random.lognormal(0, noise))
        slopes[noise] = line.parts[1]
    assert slopes[0.01] == pytest.approx(0.2, abs=0.1)
    assert slopes[1.0] > 0.4  # nearer to the .6 of a cost that is all its items'


def test_without_variation_a_cost_is_shared_by_all_items() -> None:
    line = Line()
    for _ in range(30):
        line.add(4, 8.0)
    assert line.parts == pytest.approx((0, 2))
