"""The compact layout keeps to its stated bounds, and keeps exactly what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rrti_sgl.db import quantisation
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError

LOGPROBS = arrays(np.float32, (4, 5), elements=st.floats(-600, 0, width=32) | st.just(-np.inf))


def bound(logprobs):
    x = np.maximum(-logprobs.astype(np.float64), 0)
    return quantisation.LOGPROB_ERROR * (0.25 + x) * (1 + 1e-5)  # what float32 itself adds


@given(LOGPROBS)
def test_log_probabilities_are_within_the_stated_bound(logprobs):
    assert quantisation.logprobs_fit(logprobs).all()
    back = quantisation.from_codes(quantisation.to_codes(logprobs))
    assert (np.isneginf(back) == np.isneginf(logprobs)).all()
    finite = np.isfinite(logprobs)
    assert (np.abs(back[finite] - logprobs[finite]) <= bound(logprobs[finite])).all()
    assert (np.abs(np.exp(back) - np.exp(logprobs)) < 0.009).all()
    order = np.argsort(logprobs, axis=1)
    assert (np.diff(np.take_along_axis(back, order, axis=1)[np.isfinite(back).all(axis=1)], axis=1) >= 0).all()


def test_codes_say_what_they_stand_for():
    codes = np.array([0, 1, 27, 124, 254, 255], dtype=np.uint8)
    back = quantisation.from_codes(codes)
    assert back.tolist() == pytest.approx([0, -0.00943, -0.42957, -24.4278, -3043.5, -np.inf], rel=1e-3)
    np.testing.assert_array_equal(quantisation.to_codes(back), codes)


def test_log_probabilities_that_do_not_fit_say_so():
    values = np.array([0.004, 0.006, -2999.0, -3001.0, -np.inf, np.nan], dtype=np.float32)
    assert quantisation.logprobs_fit(values).tolist() == [True, False, True, False, True, False]


@given(arrays(np.float64, 20, elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_numbers_that_fit_single_precision_are_within_its_bound(values):
    fits = quantisation.reals_fit(values)
    with np.errstate(over="ignore"):
        single = values.astype(np.float32).astype(np.float64)
    kept = fits & np.isfinite(values)
    assert (np.abs(single[kept] - values[kept]) <= quantisation.REAL_ERROR * np.abs(values[kept])).all()
    assert fits[~np.isfinite(values)].all()


def test_numbers_that_do_not_fit_single_precision_say_so():
    assert quantisation.reals_fit(np.array([0.0, 1e-300, 1e300, 1.0])).tolist() == [True, False, False, True]


@st.composite
def two_lists(draw):
    def rows(width):
        drawn = draw(st.lists(st.lists(st.integers(0, 12), max_size=width, unique=True), min_size=3, max_size=3))
        return np.array([row + [-1] * (width - len(row)) for row in drawn], dtype=np.int32).reshape(3, width)

    return rows(draw(st.integers(0, 5))), rows(draw(st.integers(0, 6)))


@pytest.mark.parametrize("short", [0, 64], ids=["sorted", "place by place"])
@given(two_lists())
def test_ranks_give_the_ids_back(short, lists):
    ids, reference = lists
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantisation, "SHORT", short)
        ranks, held = quantisation.to_ranks(ids, reference)
    for row in range(len(ids)):
        known = [i for i in reference[row] if i >= 0]
        others = [i for i, h in zip(ids[row], held[row], strict=True) if i >= 0 and not h]
        assert [(known + others)[rank - 1] for rank in ranks[row] if rank] == [i for i in ids[row] if i >= 0]
        assert not set(others) & set(known)


def random_tokens(seed: int, n: int = 40, k: int = 6) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    tokens: dict[str, object] = {}
    for model in ("base", "reasoning"):
        ids = np.argsort(rng.random((n, 10)), axis=1)[:, :k].astype(np.int32)
        logprobs = np.sort(-rng.gamma(1.0, 4.0, (n, k)), axis=1)[:, ::-1].astype(np.float32)
        asked = rng.random(n) < 0.8
        tokens[f"{model}_topk_ids"] = np.where(asked[:, None], ids, -1).astype(np.int32)
        tokens[f"{model}_topk_logprobs"] = np.where(asked[:, None], logprobs, np.nan).astype(np.float32)
    for name in ("kl", "reverse_kl", "js", "tv", "entropy_base", "entropy_reasoning", "local_mean", "base_logprob"):
        tokens[name] = np.where(rng.random(n) < 0.9, rng.gamma(0.3, 1.0, n), np.nan)
    return tokens


def stored(store: Store, trace: object) -> tuple[object, str]:
    store.write_samples([trace])
    table = next(
        name
        for name in ("compact_tokens", "exact_tokens")
        if store.sql(f"SELECT 1 FROM {name} WHERE sample_id = $s", {"s": trace.sample.sample_id}).num_rows
    )
    return store.load_sample(trace.sample.sample_id).tokens, table


EXACT_FIELDS = ("score", "ce", "local_mean", "base_topk_ids", "reasoning_topk_ids", "token_id", "fired")


@pytest.mark.parametrize("seed", range(5))
def test_compact_tokens_come_back_within_bounds(store, build, seed):
    store.begin_run(build["run"](k=6))
    ce = np.random.default_rng(seed).gamma(0.5, 1.0, 40)
    trace = build["trace"](ce=ce, tokens=random_tokens(seed))
    back, table = stored(store, trace)
    assert table == "compact_tokens"
    for name in EXACT_FIELDS:
        np.testing.assert_array_equal(getattr(back, name), getattr(trace.tokens, name), err_msg=name)
    for name in ("kl", "reverse_kl", "js", "tv", "entropy_base", "entropy_reasoning", "base_logprob"):
        np.testing.assert_allclose(getattr(back, name), getattr(trace.tokens, name), rtol=quantisation.REAL_ERROR, atol=0)
    for model in ("base", "reasoning"):
        given_, got = (getattr(tokens_, f"{model}_topk_logprobs") for tokens_ in (trace.tokens, back))
        asked = ~np.isnan(given_)
        np.testing.assert_array_equal(np.isnan(got), ~asked)
        assert (np.abs(got[asked] - given_[asked]) <= bound(given_[asked])).all()


def test_exact_precision_keeps_every_number(tmp_path, build):
    path = tmp_path / "x.duckdb"
    with Store.open(path, precision="exact") as store:
        store.begin_run(build["run"](k=6))
    with Store.open(path) as store:  # the file remembers it
        assert store.precision == "exact"
        trace = build["trace"](ce=np.linspace(0.1, 0.7, 40), tokens=random_tokens(3))
        back, table = stored(store, trace)
    assert table == "exact_tokens"
    for name in (*EXACT_FIELDS, "kl", "js", "base_logprob", "base_topk_logprobs", "reasoning_topk_logprobs"):
        np.testing.assert_array_equal(getattr(back, name), getattr(trace.tokens, name), err_msg=name)
    with pytest.raises(UsageError, match=r"no precision 'half'.*compact, exact"):
        Store.open(path, precision="half")


@pytest.mark.parametrize(
    "tokens",
    [
        {"kl": np.array([1e-300, 0.0, 1.0])},
        {"base_topk_logprobs": np.array([[-0.5, -3100.0]] * 3, dtype=np.float32)},
        {"base_topk_ids": np.array([[-1, 3]] * 3, dtype=np.int32)},
        {"base_token_text": [None, "a", "b"]},
        {"source": ["base", "base", "reasoning"], "reasoning_token_id": np.array([-1, 7, 99], dtype=np.int32)},
    ],
    ids=[
        "too small a number",
        "too low a log-probability",
        "padding inside a list",
        "a token without text",
        "a takeover that is not what was drawn",
    ],
)
def test_what_does_not_fit_is_kept_exactly_sample_by_sample(store, build, tokens):
    odd, plain = build["trace"](tokens=tokens), build["trace"](index=1)
    store.write_samples([odd, plain])
    rows = store.sql("SELECT sample_id, 'exact' AS layout FROM exact_tokens GROUP BY ALL").to_pylist()
    assert rows == [{"sample_id": odd.sample.sample_id, "layout": "exact"}]
    assert store.sql("SELECT count(*) AS n FROM compact_tokens").to_pylist() == [{"n": 3}]


def test_samples_of_other_widths_and_without_tokens_share_a_batch(store, build):
    wide = {f"{m}_topk_{part}": np.tile(value, (3, 1)) for m in ("base", "reasoning") for part, value in (
        ("ids", np.arange(4, dtype=np.int32)), ("logprobs", np.array([-1, -2, -3, -4], dtype=np.float32)))}  # fmt: skip
    empty = build["trace"](index=2, ce=[])
    traces = [build["trace"](), build["trace"](index=1, tokens=wide), empty]
    assert store.write_samples(traces) == 3
    query = """
        SELECT n_tokens, count(position) AS n FROM samples LEFT JOIN tokens USING (run_id, sample_id)
        GROUP BY sample_id, n_tokens ORDER BY n_tokens
    """
    assert [tuple(row.values()) for row in store.sql(query).to_pylist()] == [(0, 0), (3, 3), (3, 3)]


def test_a_score_that_is_another_metric_gives_its_column_back(store, build):
    values = np.array([0.1, 0.2, np.nan])
    tokens = {"score": values, "entropy_base": values, "ce": np.array([0.3, 0.4, 0.5])}
    trace = build["trace"](tokens=tokens, score_metric="entropy_base")
    back, _ = stored(store, trace)
    np.testing.assert_array_equal(back.entropy_base, values)
    np.testing.assert_allclose(back.ce, tokens["ce"], rtol=quantisation.REAL_ERROR)
    assert store.sql("SELECT DISTINCT score_is FROM compact_tokens").to_pylist() == [{"score_is": "entropy_base"}]
