"""Threshold rules of every kind, for tests that decide the same in two ways."""

from __future__ import annotations

import math
from typing import get_args

from hypothesis import strategies as st

from rrti_sgl.science.threshold import ThresholdRule, Warmup


def threshold_rules(longest: int) -> st.SearchStrategy[ThresholdRule]:
    """With windows of at most so many tokens; a rolling mean or the lambda condition, or neither."""
    common = {
        "tau": st.one_of(st.floats(-1, 10), st.sampled_from([0.1, 1.0, math.inf, -math.inf])),
        "window": st.integers(1, longest),
        "warmup": st.sampled_from(get_args(Warmup)),
        "cooldown": st.sampled_from([0, 0, 1, 4, 60]),
    }
    return st.one_of(
        st.builds(ThresholdRule, lambda_=st.one_of(st.none(), st.floats(0.1, 5)), **common),
        st.builds(ThresholdRule, rolling=st.integers(2, longest), **common),
    )
