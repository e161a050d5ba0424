"""Pivotal tokens beside the score, entropy and takeovers: by an independent computation over what was searched."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from drawn_continuations import course, outcomes_of

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running.arms import Arms
from rrti_sgl.programs.running.contrasts import Branch, Outcome
from tests.statistics.conftest import RESAMPLES, share_ends, write_run
from tests.statistics.test_causality import kept

N, LENGTH, GAP = 8, 20, 0.25


def tokens_of(searches, scores, entropies, fired):
    """Each token that was searched: sample, position, its numbers, and its change; None where the stretch was left open."""
    found = []
    for sample, shares in enumerate(searches):
        for before, last in pairwise(sorted(shares)):
            change, single = shares[last] - shares[before], last == before + 1
            for at in range(before + 1, last + 1):
                jump = change if single and abs(change) >= GAP else 0.0 if single or abs(change) < GAP else None
                found.append((sample, at, scores[sample, at], entropies[sample, at], fired[sample, at], jump))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_an_independent_computation(store, build, seed):
    rng = np.random.default_rng(seed)
    scores, entropies = (np.round(rng.exponential(1, (N, LENGTH)), 1) for _ in range(2))
    fired = scores > 1.5
    parents = [
        build["trace"]("g", f"p{i}", 0, scores[i], tokens={"entropy_base": entropies[i], "fired": fired[i]})
        for i in range(N)
    ]
    write_run(store, "g", parents)
    searches = []
    for number, parent in enumerate(parents):
        places = [-1, *sorted(rng.choice(LENGTH - 1, 12, replace=False).tolist()), LENGTH - 1]
        answers = {at: "".join(rng.choice(["a", "b"], 8, p=[0.6, 0.4])) for at in places}
        searches.append({at: given.count("a") / 8 for at, given in answers.items()})
        kept(store, build, f"s{number}", parent, [[0, LENGTH - 1]], answers, unit="pivotal", gap=GAP)
        # Searched before with fewer continuations: that search is left out.
        kept(
            store, build, f"again{number}", parent, [[0, LENGTH - 1]], {-1: "ab", LENGTH - 1: "aa"}, unit="pivotal", gap=GAP
        )
    runs = [f"{name}{number}" for number in range(N) for name in ("again", "s")]
    found = {
        (row["part"], row["label"]): row for row in run_query(store, "pivotal", run=runs, resamples=RESAMPLES).to_pylist()
    }
    every = tokens_of(searches, scores, entropies, fired)
    tokens = [token for token in every if token[-1] is not None]
    assert len(tokens) < len(every)
    whole = found["all", "searched"]
    jumps = [jump for *_, jump in tokens if jump]
    assert (whole["n_tokens"], whole["n_open"], whole["n_pivotal"]) == (len(tokens), len(every) - len(tokens), len(jumps))
    assert whole["jump"] == pytest.approx(np.mean(np.abs(jumps)))
    assert whole["raises"] == pytest.approx(np.mean(np.array(jumps) > 0))
    per_problem = [[bool(t[-1]) for t in tokens if t[0] == sample] for sample in range(N)]
    ends = share_ends([sum(each) for each in per_problem], [len(each) for each in per_problem])
    assert [whole["pivotal_low"], whole["pivotal_high"]] == pytest.approx(ends, abs=1e-9)

    def check(part, label, chosen):
        row, inside = found[part, label], [token for token in tokens if chosen(token)]
        assert (row["n_tokens"], row["n_pivotal"]) == (len(inside), sum(bool(token[-1]) for token in inside))
        controls = {}
        for token in inside:
            others = [bool(o[-1]) for o in tokens
                      if not chosen(o) and (o[0], 10 * o[1] // LENGTH) == (token[0], 10 * token[1] // LENGTH)]  # fmt: skip
            if others:
                controls[token] = np.mean(others)
        assert row["n_matched"] == len(controls)
        if controls:
            assert row["control"] == pytest.approx(np.mean([*controls.values()]))
            leads = [bool(token[-1]) - control for token, control in controls.items()]
            assert row["lead"] == pytest.approx(np.mean(leads))
            assert row["lead_low"] is None or row["lead_low"] <= row["lead"] <= row["lead_high"]

    check("fired", "takeovers", lambda token: token[4])
    check("fired", "others", lambda token: not token[4])
    for column, predictor in ((2, "score"), (3, "entropy_base")):
        values = np.array([token[column] for token in tokens])
        decile_of = {value: 1 + 10 * int((values < value).sum()) // len(values) for value in values}
        for decile in set(decile_of.values()):
            check("decile", f"{predictor} {decile}", lambda t, c=column, d=decile, of=decile_of: of[t[c]] == d)
    assert {row["lead_low"] for (part, _), row in found.items() if part == "word"} == {None}  # it would not cover
    places = [row for (part, _), row in found.items() if part == "position"]
    assert [row["decile"] for row in places] == list(range(1, 11))
    assert sum(row["n_pivotal"] for row in places) == len(jumps)


@pytest.mark.slow
def test_what_a_search_finds_of_what_there_is():
    """As the definition of `pivotal` says: nearly all that is found is there, and two of five that are there are found."""
    rng = np.random.default_rng(5)
    found = there = both = 0
    for _ in range(100):
        spikes = rng.random(int(np.clip(rng.lognormal(np.log(45), 0.4), 10, 300))) < 0.08
        right = course(np.where(spikes, 0.5 + rng.gamma(2, 0.8, len(spikes)), 0.05), rng)[:, 0]
        arms = Arms("", "pivotal", ((0, len(spikes) - 1),), 64, gap=0.2)
        outcomes = defaultdict(list)

        def drawn(branch: Branch, right=right) -> Outcome:
            return Outcome(bool(rng.random() < right[branch.position + 1]), "")

        for branch, outcome in outcomes_of(arms, drawn):
            outcomes[branch.position].append(outcome.right)
        jumps = {at for before, at in pairwise(sorted(outcomes))
                 if before == at - 1 and abs(np.mean(outcomes[at]) - np.mean(outcomes[before])) >= 0.2}  # fmt: skip
        true = set(np.flatnonzero(np.abs(np.diff(right)) >= 0.2).tolist())
        found, there, both = found + len(jumps), there + len(true), both + len(jumps & true)
    assert both / found > 0.95
    assert 0.3 < both / there < 0.5


def test_other_counterfactuals_are_no_search(store, build):
    parent = build["trace"]("g", "p", 0, [1.0, 2.0])
    write_run(store, "g", [parent])
    kept(store, build, "s", parent, [[0, 1]], {-1: "ab", 1: "aa"})
    with pytest.raises(UsageError, match=r"No stored sample was searched for pivotal tokens by s"):
        run_query(store, "pivotal", run="s")
