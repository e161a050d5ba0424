"""Takeovers: positions, runs, gaps, choices, pairs and the entropy around them."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.errors import UsageError
from tests.statistics.conftest import RESAMPLES, random_traces, ratio_ends, rows, share_ends, write_run


def by_part(found, part, *columns):
    return [tuple(row[column] for column in columns) for row in found if row["part"] == part]


def test_golden(store, build):
    # Takeovers at 0, 1 and 5 of 10 tokens; another sample has one at 3 of 4.
    fired = np.isin(np.arange(10), [0, 1, 5])
    base = np.where(fired, [10, 99, 0, 0, 0, -1, 0, 0, 0, 0], np.arange(10) + 10).astype(np.int32)
    entropy = np.arange(10) / 10
    first = build["trace"](
        "r", "p1", 0, np.ones(10), tokens={"fired": fired, "base_token_id": base, "entropy_base": entropy}
    )
    last = {"fired": np.arange(4) == 3, "entropy_base": np.array([0, 0, np.nan, 2.0])}
    write_run(store, "r", [first, build["trace"]("r", "p2", 0, np.ones(4), tokens=last)])
    found = rows(store, "takeovers", bins=2)
    assert by_part(found, "position", "label", "n", "share") == [("u 0.00-0.50", 2, 0.5), ("u 0.50-1.00", 2, 0.5)]
    assert by_part(found, "run", "label", "n") == [("1", 2), ("2", 1)]
    assert by_part(found, "gap", "label", "n", "share") == [("3-4", 1, 1.0)]
    assert by_part(found, "choice", "label", "n", "share") == [
        ("changed", 1, 0.25),
        ("agreed", 2, 0.5),
        ("not asked", 1, 0.25),
    ]
    assert by_part(found, "pair", "label", "n") == [
        ("t0 -> t0", 1),
        ("t3 -> t3", 1),
        ("t89 -> t1", 1),
        ("not asked -> t5", 1),
    ]
    # Before: 0.0 (before 1), 0.4; at: 0.0, 0.1, 0.5, 2.0; after: 0.1, 0.2, 0.6; all: 4.5 and 2 over 13.
    assert by_part(found, "entropy", "label", "n") == [("before", 2), ("at", 4), ("after", 3), ("all tokens", 13)]
    assert [mean for (mean,) in by_part(found, "entropy", "mean")] == pytest.approx([0.2, 0.65, 0.3, 6.5 / 13])
    assert len(by_part(rows(store, "takeovers", top=2), "pair", "n")) == 2


def lengths(flags):
    """Lengths of the maximal runs of True, and of the runs of False between two of them."""
    stretches = [(flag, len(list(group))) for flag, group in groupby(flags)]
    inner = stretches[1:-1]
    return [n for flag, n in stretches if flag], [n for flag, n in inner if not flag]


def name_of(length):
    place = int(np.ceil(np.log2(length)))
    return str(2**place) if place <= 1 else f"{2 ** (place - 1) + 1}-{2**place}"


@pytest.mark.parametrize("seed", range(4))
def test_equal_to_an_independent_computation(store, seed):
    rng = np.random.default_rng(seed)
    traces = random_traces(rng, "r", problems=6, fires=0.5, longest=40)
    write_run(store, "r", traces)
    found = run_query(store, "takeovers", bins=3, top=4, resamples=RESAMPLES).to_pylist()
    both = [lengths(trace.tokens.fired) for trace in traces]
    for part, each in (("run", [runs for runs, _ in both]), ("gap", [gaps for _, gaps in both])):
        expected = Counter(name_of(length) for group in each for length in group)
        assert dict(by_part(found, part, "label", "n")) == expected
        shares = {label: n / expected.total() for label, n in expected.items()}
        assert dict(by_part(found, part, "label", "share")) == pytest.approx(shares, abs=1e-9)
    pairs = Counter()
    for trace in traces:
        tokens = trace.tokens
        pairs.update(zip(tokens.base_token_id[tokens.fired].tolist(), tokens.token_id[tokens.fired].tolist(), strict=True))
    counted = by_part(found, "pair", "base_token_id", "token_id", "n")
    assert [n for *_, n in counted] == sorted(pairs.values(), reverse=True)[:4]
    assert all(pairs[-1 if base is None else base, token] == n for base, token, n in counted)
    both_asked = [t.tokens.fired & (t.tokens.base_token_id >= 0) for t in traces]
    others = [
        (t.tokens.token_id != t.tokens.base_token_id)[asked].sum() for t, asked in zip(traces, both_asked, strict=True)
    ]
    changed = [sum(others[i : i + 3]) for i in range(0, 18, 3)]
    taken = [sum(trace.sample.n_takeovers for trace in traces[i : i + 3]) for i in range(0, 18, 3)]
    (row,) = [row for row in found if row["label"] == "changed"]
    assert row["share"] == pytest.approx(sum(changed) / sum(taken), abs=1e-9)
    assert [row["share_low"], row["share_high"]] == pytest.approx(share_ends(changed, taken), abs=1e-9)
    after = [t.tokens.entropy_base[1:][t.tokens.fired[:-1]] for t in traces]
    (row,) = [row for row in found if row["label"] == "after"]
    assert row["mean"] == pytest.approx(np.concatenate(after).mean(), abs=1e-9)
    assert row["share"] is row["share_low"] is None
    of_problem = [np.concatenate(after[i : i + 3]) for i in range(0, 18, 3)]
    bounds = ratio_ends([values.sum() for values in of_problem], [len(values) for values in of_problem])
    assert [row["mean_low"], row["mean_high"]] == pytest.approx(bounds, abs=1e-9)


def test_a_run_without_takeovers_is_refused(store, build):
    write_run(store, "r", [build["trace"]("r")])
    with pytest.raises(UsageError, match="run r: the gate never fired on its 3 tokens"):
        run_query(store, "takeovers")
