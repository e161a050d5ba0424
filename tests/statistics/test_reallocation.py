"""Reallocation: ranks of the guest's token and the mass it moves, by hand and token by token."""

from __future__ import annotations

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from tests.statistics.conftest import RESAMPLES, rows, share_ends, write_run

SHARES = (
    *("first", "five", "listed", "host_probability", "tv"),
    *("host_on_first", "guest_on_first", "host_on_five", "guest_on_five"),
)


def lists(ids, probabilities):
    """Columns of one model's lists; a probability of 0 ends a list."""
    p = np.asarray(probabilities, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.where(p > 0, np.asarray(ids), -1).astype(np.int32), np.where(p > 0, np.log(p), np.nan).astype(np.float32)


def sample(build, run_id, problem, index, values, fired, emitted, drew, host, guest, tv, host_logprob):
    host_ids, host_logprobs = lists(*host)
    guest_ids, guest_logprobs = lists(*guest)
    tokens = {
        "fired": np.asarray(fired),
        "token_id": np.asarray(emitted, dtype=np.int32),
        "base_token_id": np.asarray(drew, dtype=np.int32),
        "base_logprob": np.asarray(host_logprob, dtype=np.float64),
        "tv": np.asarray(tv, dtype=np.float64),
        **{"base_topk_ids": host_ids, "base_topk_logprobs": host_logprobs},
        **{"reasoning_topk_ids": guest_ids, "reasoning_topk_logprobs": guest_logprobs},
    }
    return build["trace"](run_id, problem, index, values, tokens=tokens)


def test_golden(store, build):
    host = [[1, 2], [1, 2], [3, 4]], [[0.5, 0.25], [0.5, 0.25], [0.75, 0.125]]
    guest = [[2, 9], [1, 9], [9, 3]], [[0.75, 0.125], [0.75, 0.125], [0.5, 0.25]]
    # A takeover with the host's second token, a token left to the host, a takeover with one that the host's list lacks.
    traces = [
        sample(build, "r", "p1", 0, [1.0, 2.0, 3.0], [True, False, True], [2, 1, 9], [1, 1, 9], host, guest,
               [0.5, 0.25, 0.75], [np.log(0.25), np.log(0.5), np.log(0.0625)])
    ]  # fmt: skip
    write_run(store, "r", traces)
    found = {(row["part"], row["label"]): row for row in rows(store, "reallocation")}
    assert [key for key in found if key[0] == "takeovers"] == [("takeovers", "all"), ("takeovers", "changed")]
    everything, changed = found["takeovers", "all"], found["takeovers", "changed"]
    assert (everything["n"], changed["n"]) == (2, 1)
    assert [everything[name] for name in SHARES] == pytest.approx(
        [0, 0.5, 0.5, (0.25 + 0.0625) / 2, 0.625, 0.625, 0.125, (0.75 + 0.875) / 2, (0.75 + 0.25) / 2], rel=2e-2
    )
    assert [changed[name] for name in SHARES] == pytest.approx([0, 1, 1, 0.25, 0.5, 0.5, 0, 0.75, 0.75], rel=2e-2)
    kept = next(row for (part, _), row in found.items() if part == "decile" and row["first"] == 1)
    assert (kept["n"], kept["guest_on_first"]) == (1, pytest.approx(0.75, rel=2e-2))


@pytest.mark.parametrize("seed", range(2))
def test_equal_to_an_independent_computation(store, build, seed):
    rng = np.random.default_rng(seed)
    traces, told = [], []
    for place in range(12):
        n = int(rng.integers(5, 30))
        both = []
        for _ in range(2):
            ids = np.stack([rng.permutation(9)[:6] for _ in range(n)])
            both.append((ids, np.sort(rng.dirichlet(np.ones(7), n)[:, :6], axis=1)[:, ::-1]))
        host_ids, guest_ids = both[0][0], both[1][0]
        values, tv, fired = np.round(rng.exponential(2, n)) / 2, rng.random(n), rng.random(n) < 0.4
        emitted, drew = np.where(fired, rng.integers(0, 9, n), host_ids[:, 0]), rng.integers(0, 9, n)
        known = np.log(rng.uniform(0.01, 1, n))
        problem = f"p{place // 2}"
        traces.append(sample(build, "r", problem, place % 2, values, fired, emitted, drew, both[0], both[1], tv, known))
        stored = traces[-1].tokens
        for t in range(n):
            host = dict(zip(stored.base_topk_ids[t].tolist(), np.exp(stored.base_topk_logprobs[t]), strict=True))
            guest = dict(zip(stored.reasoning_topk_ids[t].tolist(), np.exp(stored.reasoning_topk_logprobs[t]), strict=True))
            token, five = int(emitted[t] if fired[t] else guest_ids[t, 0]), [*host][:5]
            numbers = (
                token == five[0], token in five, token in host, np.exp(known[t]) if fired[t] else host.get(token, 0),
                tv[t], host[five[0]], guest.get(five[0], 0), sum(host[i] for i in five), sum(guest.get(i, 0) for i in five),
            )  # fmt: skip
            told.append((problem, float(values[t]), bool(fired[t]), bool(fired[t] and emitted[t] != drew[t]), *numbers))
    write_run(store, "r", traces)
    found = run_query(store, "reallocation", resamples=RESAMPLES).to_pylist()
    ordered = sorted(row[1] for row in told)
    tenths = [ordered[int(np.ceil(len(ordered) * tenth / 10)) - 1] for tenth in range(1, 10)]
    of = {
        ("takeovers", "all"): lambda row: row[2],
        ("takeovers", "changed"): lambda row: row[3],
        **{("decile", str(d)): lambda row, d=d: 1 + sum(row[1] > tenth for tenth in tenths) == d for d in range(1, 11)},
    }
    assert {(row["part"], row["label"]) for row in found} == {key for key, holds in of.items() if any(map(holds, told))}
    for row in found:
        chosen = [each for each in told if of[row["part"], row["label"]](each)]
        assert row["n"] == len(chosen)
        for place, name in enumerate(SHARES, 4):
            by_problem = [[each[place] for each in chosen if each[0] == f"p{p}"] for p in range(6)]
            total, counts = [float(sum(each)) for each in by_problem], [len(each) for each in by_problem]
            assert row[name] == pytest.approx(sum(total) / sum(counts), rel=2e-2, abs=1e-6), (row["label"], name)
            if (row["part"], name) == ("decile", "tv"):
                assert row["tv_low"] is row["tv_high"] is None
                continue
            ends = share_ends(total, counts)
            assert [row[f"{name}_low"], row[f"{name}_high"]] == pytest.approx(ends, rel=5e-2, abs=1e-3)
