"""How far apart two distributions of answers are, from a few draws of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rrti_sgl.errors import UsageError
from rrti_sgl.records import IntArray
from rrti_sgl.statistics.estimates import NORMAL_975

_VARIANCE_975 = NORMAL_975**2


def answer_distance(first: Sequence[str], second: Sequence[str]) -> tuple[float, float, float]:
    """Half the squared distance of two distributions over answers, 0 to 1, and the ends of its 95 % interval.

    It is the probability that a draw of each differ, less the mean of that for two draws of the same one. The estimate has
    no bias, so that it may lie below 0; of a single draw it is NaN.

    The interval takes the shares of the K answers that were seen (at least 2) with 2 / K draws of each more, so that of two
    answers it is the one of `difference_of_shares`, squared, and a normal distance along the direction in which these
    shares vary most. What the other directions add to the squared distance by chance is taken off: their mean for the upper
    end, for the lower end so much that equal distributions have 0 in it as often as they should. In simulations with 2 to
    10 answers and 8 draws of each it held the true value in 89 % or more, with 16 in 92 % or more.

    Args:
        first, second: the answers that were drawn.

    Raises:
        UsageError: there is none of one of them.
    """
    n, m = len(first), len(second)
    if not min(n, m):
        raise UsageError(f"{n} and {m} answers are no two distributions.", "Draw at least one of each.")
    seen = sorted({*first, *second})
    x, y = (
        np.array([answers.count(each) for each in seen] + [0] * (len(seen) == 1), np.int32) for answers in (first, second)
    )
    more = 2 / len(x)
    p, q = (x + more) / (n + 2), (y + more) / (m + 2)
    apart = float(((p - q) ** 2).sum())
    varies = np.linalg.eigvalsh((np.diag(p) - np.outer(p, p)) / (n + 2) + (np.diag(q) - np.outer(q, q)) / (m + 2))
    largest, total = float(varies[-1]), float(varies.sum())
    chance = total + NORMAL_975 * np.sqrt(2 * (varies**2).sum()) - _VARIANCE_975 * largest
    reach = NORMAL_975 * np.sqrt(largest)
    low = max(0.0, np.sqrt(max(0.0, apart - max(0.0, chance))) - reach)
    high = np.sqrt(max(0.0, apart - (total - largest))) + reach
    return _estimate(x, y), float(low**2 / 2), float(min(1.0, high**2 / 2))


def _estimate(x: IntArray, y: IntArray) -> float:
    n, m = int(x.sum()), int(y.sum())
    if min(n, m) < 2:
        return float("nan")
    within = [1 - float((each * (each - 1)).sum()) / (k * (k - 1)) for each, k in ((x, n), (y, m))]
    return 1 - float((x * y).sum()) / (n * m) - sum(within) / 2
