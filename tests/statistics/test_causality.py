"""Causality: outcomes with and without a takeover, by score."""

from __future__ import annotations

from itertools import permutations, product

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.statistics.answers import answer_distance
from tests.statistics.conftest import RESAMPLES, rows, share_ends, write_run


def counterfactual(store, build, run_id, parents, outcomes):
    """Arms of positions: (parent, position) -> texts of right ("1") and wrong continuations, taken and denied."""
    traces = []
    for (parent, position), arms in outcomes.items():
        for arm, flags in zip(("taken", "denied"), arms, strict=True):
            for flag in flags:
                sample = parents[parent].sample
                origin = {"parent_sample_id": sample.sample_id, "parent_position": position, "arm": arm}
                traces.append(build["trace"](run_id, sample.problem_id, len(traces), correct=flag == "1", **origin))
    write_run(store, run_id, traces, program="counterfactual")


def parents_of(store, build, scores):
    traces = [build["trace"]("g", f"p{i:02d}", 0, values) for i, values in enumerate(scores)]
    write_run(store, "g", traces)
    return traces


def test_golden(store, build):
    parents = parents_of(store, build, [[1.0, 5.0, 2.0], [9.0, np.nan, 3.0]])
    outcomes = {
        (0, 0): ("1111", "0011"),  # necessary
        (0, 1): ("1", "1"),
        (1, 0): ("0", "1"),  # harmful
        (1, 1): ("11", "00"),  # necessary, without a score
    }
    counterfactual(store, build, "c", parents, outcomes)
    found = rows(store, "causality")
    assert {(row["run_id"], row["program"], row["metric"]) for row in found} == {("g", "guided", "ce")}
    whole = found[0]
    assert (whole["part"], whole["n_problems"], whole["n_units"], whole["n_samples"]) == ("all", 2, 4, 16)
    assert (whole["taken"], whole["denied"], whole["effect"]) == pytest.approx((3 / 4, 2.5 / 4, 0.5 / 4))
    assert (whole["necessary"], whole["harmful"]) == pytest.approx((2 / 4, 1 / 4))
    deciles = [
        (row["decile"], row["n_units"], row["score_low"], row["score_high"], row["necessary"])
        for row in found
        if row["part"] == "decile"
    ]
    assert deciles == [(1, 1, 1.0, 1.0, 1.0), (4, 1, 5.0, 5.0, 0.0), (7, 1, 9.0, 9.0, 0.0)]
    places = [(row["decile"], row["n_units"], row["effect"]) for row in found if row["part"] == "position"]
    assert places == [(1, 2, -0.25), (4, 2, 0.5)]  # the first and the second of three tokens
    [words] = [row for row in found if row["part"] == "word"]
    assert (words["tag"], words["n_units"]) == ("none", 4)


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_an_independent_computation(store, build, seed):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.exponential(1, (8, 5)), 1)
    parents = parents_of(store, build, scores)
    arms = rng.random((8, 5, 2, 3)) < 0.5
    cells = {
        (p, t): ["".join("01"[flag] for flag in arm) for arm in arms[p, t].astype(int)] for p in range(8) for t in range(5)
    }
    counterfactual(store, build, "c1", parents, {cell: cells[cell] for cell in cells if cell[0] < 4})
    counterfactual(store, build, "c2", parents, {cell: cells[cell] for cell in cells if cell[0] >= 4})
    found = run_query(store, "causality", resamples=RESAMPLES).to_pylist()
    taken, denied = np.moveaxis(arms.mean(axis=3), -1, 0)
    necessary = (taken > 0.5) & (denied <= 0.5)
    assert found[0]["effect"] == pytest.approx((taken - denied).mean(), abs=1e-9)
    ends = [2 * end - 1 for end in share_ends((taken - denied + 1).sum(axis=1) / 2, [5] * 8)]
    assert [found[0]["effect_low"], found[0]["effect_high"]] == pytest.approx(ends, abs=1e-9)
    ends = share_ends(necessary.sum(axis=1), [5] * 8)
    assert [found[0]["necessary_low"], found[0]["necessary_high"]] == pytest.approx(ends, abs=1e-9)
    assert found[0]["necessary"] == pytest.approx(necessary.mean(), abs=1e-9)
    smaller = (scores.ravel()[:, None] > scores.ravel()).sum(axis=1)
    decile = 1 + 10 * smaller // scores.size
    deciles = [row for row in found if row["part"] == "decile"]
    for row in deciles:
        chosen = (decile == row["decile"]).reshape(scores.shape)
        assert row["n_units"] == chosen.sum()
        assert row["necessary"] == pytest.approx(necessary[chosen].mean(), abs=1e-9)
        assert (row["score_low"], row["score_high"]) == (scores[chosen].min(), scores[chosen].max())
    assert {row["decile"] for row in deciles} == set(decile.tolist())


def answering(store, build, run_id, parent, positions, **changes):
    """Arms of positions of one parent: the answers of the continuations with the takeover and of those without."""
    traces = []
    for position, arms in positions.items():
        for arm, answers in zip(("taken", "denied"), arms, strict=True):
            for answer in answers:
                origin = {"parent_sample_id": parent.sample.sample_id, "parent_position": position, "arm": arm}
                found = None if answer == "-" else answer
                problem = parent.sample.problem_id
                traces.append(build["trace"](run_id, problem, len(traces), correct=answer == "a", answer=found, **origin))
    write_run(store, run_id, traces, program="counterfactual", **changes)


def differ(one, other):
    """Share of pairs of continuations that answer differently, one by one; of one arm its different pairs alone."""
    pairs = permutations(one, 2) if other is None else product(one, other)
    found = [a != b for a, b in pairs]
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", range(3))
def test_how_far_answers_are_apart_by_pairs_of_continuations(store, build, seed):
    rng = np.random.default_rng(seed)
    [parent] = parents_of(store, build, [[1.0] * 6])
    arms = {t: ["".join(rng.choice(list("aabc-"), rng.integers(2, 6))) for _ in range(2)] for t in range(5)}
    answering(store, build, "c", parent, {**arms, 5: ("a", "b")}, temperature=0.7)
    expected = [differ(x, y) - (differ(x, None) + differ(y, None)) / 2 for x, y in arms.values()]
    whole = rows(store, "causality")[0]
    assert (whole["n_units"], whole["n_answers"]) == (6, 5)  # of one continuation of each arm nothing is known
    assert whole["answers"] == pytest.approx(np.mean(expected), abs=1e-12)


def test_half_the_squared_distance_is_estimated_without_bias(store, build):
    """All draws of two continuations of each arm, weighted by their probability, average to it."""
    p, q = {"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.8}
    expected = 0.0
    for x in product(p, repeat=2):
        for y in product(q, repeat=2):
            weight = p[x[0]] * p[x[1]] * q[y[0]] * q[y[1]]
            expected += weight * (differ(x, y) - (differ(x, None) + differ(y, None)) / 2)
    assert expected == pytest.approx(sum((p[a] - q[a]) ** 2 for a in p) / 2)


def test_greedy_continuations_answer_the_same_or_not(store, build):
    [parent] = parents_of(store, build, [[1.0, 2.0, 3.0]])
    answering(store, build, "c", parent, {0: ("a", "b"), 1: ("b", "b"), 2: ("b", "c")}, temperature=0.0)
    whole = rows(store, "causality")[0]
    assert (whole["n_answers"], whole["answers"]) == (3, pytest.approx(2 / 3))
    assert whole["effect"] == pytest.approx(1 / 3)  # b and c are both wrong


def kept(store, build, run_id, parent, spans, answers, unit="sentence", **more):
    """Continuations of beginnings of one parent, by the position of their last token, as a run on some of its spans."""
    traces = []
    for position, given in answers.items():
        for answer in given:
            origin = {"parent_sample_id": parent.sample.sample_id, "parent_position": position, "arm": "kept"}
            sample = {"correct": answer == "a", "answer": None if answer == "-" else answer}
            traces.append(build["trace"](run_id, parent.sample.problem_id, len(traces), **sample, **origin))
    arms = {"sample": parent.sample.sample_id, "unit": unit, "spans": spans, **more}
    write_run(store, run_id, traces, program="counterfactual", config={"kind": "counterfactual", "arms": arms})


@pytest.mark.parametrize("seed", range(3))
def test_sentences_by_an_independent_computation(store, build, seed):
    """A beginning between two sentences is with the one and without the other; what is not asked for is no unit."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.exponential(1, (8, 9)), 1)
    scores[0, :3] = np.nan
    parents = parents_of(store, build, scores)
    spans = [[0, 2], [3, 4], [7, 8]]  # the third sentence was not asked for
    answers = [{t: "".join(rng.choice(list("aabc-"), rng.integers(2, 7))) for t in (-1, 2, 4, 6, 8)} for _ in parents]
    for number, (parent, given) in enumerate(zip(parents, answers, strict=True)):
        kept(store, build, f"c{number}", parent, spans, given)
    kept(store, build, "other", parents[0], [[0, 8]], {-1: "aab", 8: "bbb"}, unit="pivotal")
    found = run_query(
        store, "causality", run=[*(f"c{number}" for number in range(8)), "other"], resamples=RESAMPLES
    ).to_pylist()
    assert {row["unit"] for row in found} == {"sentence"}
    units = [
        (number, first, last, given[last], given[first - 1]) for number, given in enumerate(answers) for first, last in spans
    ]
    effects = np.array([with_it.count("a") / len(with_it) - other.count("a") / len(other) for *_, with_it, other in units])
    whole = found[0]
    assert (whole["part"], whole["n_units"], whole["n_problems"]) == ("all", 24, 8)
    assert whole["effect"] == pytest.approx(effects.mean())
    ends = [2 * end - 1 for end in share_ends((effects.reshape(8, 3) + 1).sum(axis=1) / 2, [3] * 8)]
    assert [whole["effect_low"], whole["effect_high"]] == pytest.approx(ends, abs=1e-9)
    apart = [differ(x, y) - (differ(x, None) + differ(y, None)) / 2 for *_, x, y in units]
    assert whole["answers"] == pytest.approx(np.mean(apart), abs=1e-12)
    assert [answer_distance(x, y)[0] for *_, x, y in units] == pytest.approx(apart)
    kl = np.array([smoothed_kl(other, with_it) for *_, with_it, other in units])
    assert whole["kl"] == pytest.approx(kl.mean())
    most = max(most_kl(other, with_it) for *_, with_it, other in units)
    ends = [end * most for end in share_ends(kl.reshape(8, 3).sum(axis=1) / most, [3] * 8)]
    assert [whole["kl_low"], whole["kl_high"]] == pytest.approx(ends, abs=1e-9)
    for row in found[1:]:  # of fewer problems than five there is none
        assert (row["kl_low"] is None) == (row["n_problems"] < 5)
        assert row["kl_low"] is None or 0 <= row["kl_low"] <= row["kl"] <= row["kl_high"] <= most
    largest = np.array([np.nan if np.isnan(scores[n, a : b + 1]).all() else np.nanmax(scores[n, a : b + 1])
                        for n, a, b, *_ in units])  # fmt: skip
    deciles = [row for row in found if row["part"] == "decile"]
    assert sum(row["n_units"] for row in deciles) == 23
    for row in deciles:
        smaller = np.array([(largest < each).sum() for each in largest])
        chosen = (1 + 10 * smaller // 23 == row["decile"]) & ~np.isnan(largest)
        assert (row["score_low"], row["score_high"]) == (largest[chosen].min(), largest[chosen].max())
        assert row["effect"] == pytest.approx(effects[chosen].mean())
    places = {row["decile"]: row["n_units"] for row in found if row["part"] == "position"}
    assert places == {3: 8, 5: 8, 9: 8}


def smoothed_kl(one, other):
    """KL of two lists of answers, with one answer more of each kind."""
    seen = sorted({*one, *other})
    p, q = (np.array([each.count(answer) + 1 for answer in seen]) / (len(each) + len(seen)) for each in (one, other))
    return float((p * np.log(p / q)).sum())


def most_kl(one, other):
    """The logarithm of the largest ratio of two such chances: one list is of one answer alone, the other has none of it."""
    kinds = len({*one, *other})
    return np.log((len(one) + 1) / (len(one) + kinds) * (len(other) + kinds))


@hypothesis.given(st.text("abc", min_size=2, max_size=9), st.text("abc", min_size=2, max_size=9))
def test_no_smoothed_kl_is_larger_than_the_most(one, other):
    assert -1e-12 <= smoothed_kl(one, other) <= most_kl(one, other)


def test_tokens_and_sentences_are_told_apart(store, build):
    [parent] = parents_of(store, build, [[1.0, 5.0, 2.0]])
    counterfactual(store, build, "c", [parent], {(0, 1): ("11", "00")})
    kept(store, build, "s", parent, [[0, 2]], {-1: "ab", 2: "aa"})
    found = [row for row in rows(store, "causality", run=["c", "s"]) if row["part"] == "all"]
    assert [(row["unit"], row["n_units"], row["n_samples"], row["effect"]) for row in found] == [
        ("token", 1, 4, 1.0), ("sentence", 1, 4, 0.5)
    ]  # fmt: skip


def test_what_cannot_be_answered_is_named(store, build):
    parents = parents_of(store, build, [[1.0, 5.0]])
    with pytest.raises(UsageError, match="run g: its samples are no arms of an intervention"):
        run_query(store, "causality")
    counterfactual(store, build, "c", parents, {(0, 0): ("11", "")})
    with pytest.raises(UsageError, match="No position of c has both arms: 2 graded samples are taken, 0 denied"):
        run_query(store, "causality", run="c")
    origin = {"parent_sample_id": "elsewhere", "parent_position": 0}
    write_run(store, "d", [build["trace"]("d", index=i, arm=arm, **origin) for i, arm in enumerate(("taken", "denied"))])
    with pytest.raises(UsageError, match=r"No position of d has both arms: .* the stored samples of 0 are there"):
        run_query(store, "causality", run="d")
