"""What a pair refuses by its lengths, and what it advises."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import UsageError


def pair(base: int, reasoning: int) -> Pair:
    """Servers that take so many tokens; nothing here asks them."""
    engines = [
        cast(Any, SimpleNamespace(info=EngineInfo("none", "m", "m", "0", 0, limit, 1))) for limit in (base, reasoning)
    ]
    return Pair(*engines, cast(Any, None), cast(Any, None))


@pytest.mark.parametrize(
    ("lengths", "new", "message", "remedy"),
    [
        (
            (7, 4),
            4,
            "base prompt has 7 tokens; with max_new_tokens=4 that is more than the 10 that the base server takes",
            "max_new_tokens=3 or less",
        ),
        (
            (5, 20),
            1,
            "reasoning prompt has 20 tokens; with an answer that is more than the 20 that the reasoning server takes",
            "Shorten the prompt",
        ),
        ((30, 4), 1, "base prompt has 30 tokens", "Shorten the prompt"),
        ((0, 4), 1, "base prompt is empty", "template"),
        ((8, 19), 3, "base prompt has 8 .* The reasoning prompt has 19 ", "max_new_tokens=1 or less"),
    ],
)
def test_what_does_not_fit_is_refused(lengths: tuple[int, int], new: int, message: str, remedy: str) -> None:
    base, reasoning = ([3] * n for n in lengths)
    with pytest.raises(UsageError, match=message) as error:
        pair(10, 20).check_lengths(base, reasoning, new)
    assert remedy in error.value.remedy


def test_what_fits_to_the_last_token_passes() -> None:
    pair(10, 20).check_lengths([3] * 6, [3] * 16, 4)
