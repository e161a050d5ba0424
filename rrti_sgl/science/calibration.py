"""Thresholds from the scores of base rollouts (Shen et al., arXiv 2605.16874, section "Intervention").

`tau = Q_{1-r}(S)` for the spike ratio r, `lambda = E[s | s > tau] / E[s]`. The paper names no quantile definition; ours
is the order statistic that lets the largest number of scores, at most r N, lie strictly above tau.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rrti_sgl.errors import CalibrationMismatchError, UsageError, argument, command
from rrti_sgl.records import CalibrationRecord, FloatArray, ScoreKind


@dataclass(frozen=True, slots=True)
class Thresholds:
    """tau and lambda of one spike ratio, in the unit of the scores.

    `fired_share` is the share of the n_tokens scores above tau: at most `spike_ratio`, less only for ties and for
    rounding to whole tokens. With the lambda condition on, a gate fires less often than that.
    """

    spike_ratio: float
    tau: float
    lambda_: float
    mean_score: float
    n_tokens: int
    fired_share: float


def calibrate(scores: FloatArray, spike_ratio: float) -> Thresholds:
    """Thresholds from (N,) scores of base rollouts, all samples together, in any order.

    tau is the (m+1)-th largest score, m the largest integer with m / N <= spike_ratio: exactly m scores lie above it,
    or, where scores are tied with it, as many as can without exceeding the ratio.

    Raises:
        UsageError: no scores, NaN or infinite ones, a ratio outside (0, 1), or no score above tau (too few tokens for
            the ratio, or equal scores).
    """
    return sweep(scores, [spike_ratio])[0]


def sweep(scores: FloatArray, spike_ratios: Sequence[float]) -> list[Thresholds]:
    """`calibrate` for several spike ratios at the cost of one sort."""
    ascending = _ascending(scores)
    return [_thresholds(ascending, ratio) for ratio in spike_ratios]


def separating(scores: FloatArray, share: float) -> float:
    """A threshold that no score equals, and that as many of the (N,) scores exceed as can, at most `share` N of them.

    It lies midway between the order statistic of `calibrate` and the next larger score; one above or below all of them
    where none or all may exceed it. For programs that meet the very tokens again whose scores these are, as greedy ones do:
    at a threshold that is the score of such a token, the rounding of a batch would decide.

    Raises:
        UsageError: no scores, NaN or infinite ones, or some may exceed it and none can (equal scores).
    """
    ascending = _ascending(scores)
    bounded = np.concatenate([[ascending[0] - 2], ascending, [ascending[-1] + 2]])
    above = most_above(ascending.size, share)
    lower = bounded[ascending.size - above]
    larger = bounded[np.searchsorted(bounded, lower, side="right")]
    if above and larger > ascending[-1]:
        raise UsageError(
            f"no threshold takes over at {share:.3g} of the tokens: the {above + 1} largest of {ascending.size} are equal.",
            "Follow a run that took over more often, or choose another score.",
        )
    return float(min((lower + larger) / 2, np.nextafter(larger, lower)))


def _ascending(scores: FloatArray) -> FloatArray:
    values = np.asarray(scores, dtype=np.float64).ravel()
    if values.size == 0:
        raise UsageError("scores are empty: there is nothing to calibrate on.", "Score some base rollouts first.")
    bad = ~np.isfinite(values)
    if bad.any():
        raise UsageError(
            f"scores hold {int(bad.sum())} NaN or infinite values, the first at index {int(np.argmax(bad))}.",
            "Leave unscored tokens out; for a bounded score use js or tv, or a k below the vocabulary.",
        )
    return np.sort(values)


def _thresholds(ascending: FloatArray, spike_ratio: float) -> Thresholds:
    if not 0 < spike_ratio < 1:
        given = argument("spike_ratio", spike_ratio)
        raise UsageError(f"{given} is no share of the tokens.", "Give a number between 0 and 1.")
    total = ascending.size
    above = most_above(total, spike_ratio)
    tau = float(ascending[total - 1 - above])
    spikes = ascending[np.searchsorted(ascending, tau, side="right") :]
    if spikes.size == 0:
        if above == 0:
            raise UsageError(
                f"{argument('spike_ratio', spike_ratio)} allows no takeover among {total} scored tokens.",
                f"Use at least {math.ceil(1 / spike_ratio)} tokens, or a larger ratio.",
            )
        raise UsageError(
            f"no score lies above tau = {tau:g}: the {above + 1} largest of {total} are equal.",
            f"Use a larger {argument('spike_ratio')}, another {argument('metric')}, or a larger {argument('k')}.",
        )
    mean_score, mean_spike = float(ascending.mean()), float(spikes.mean())
    if mean_score <= 0:
        raise UsageError(f"the mean score is {mean_score:g}; lambda needs a positive one.", "Use a divergence as score.")
    return Thresholds(spike_ratio, tau, mean_spike / mean_score, mean_score, total, spikes.size / total)


def most_above(total: int, spike_ratio: float) -> int:
    """The largest number of `total` scores that is no larger share of them than the ratio."""
    above = math.floor(spike_ratio * total)
    above += (above + 1) / total <= spike_ratio  # the product was rounded down, as in 0.29 * 100
    above -= above / total > spike_ratio
    return above


def check_compatible(
    calibration: CalibrationRecord,
    *,
    metric: str,
    score_kind: ScoreKind,
    k: int,
    base_model: str,
    reasoning_model: str,
    tokenizer_hash: str,
) -> None:
    """Refuses a calibration whose scores are not those of the run. Scores over the whole vocabulary depend on no k.

    Raises:
        CalibrationMismatchError: lists every field that differs, with both values.
    """
    run = {
        "metric": metric,
        "score_kind": score_kind,
        "k": k,
        "base_model": base_model,
        "reasoning_model": reasoning_model,
        "tokenizer_hash": tokenizer_hash,
    }
    differences = [
        f"{name} is {getattr(calibration, name)!r} in the calibration and {value!r} in the run"
        for name, value in run.items()
        if getattr(calibration, name) != value and not (name == "k" and score_kind == "full")
    ]
    if differences:
        kinds = (
            ", on servers as those of the run: one server for both models scores over the whole vocabulary (full), "
            "two servers by the k most probable tokens (topk)"
        )
        raise CalibrationMismatchError(
            f"calibration {calibration.calibration_id} does not fit this run: {'; '.join(differences)}.",
            f"Make one that does with `{command('calibrate')}`{kinds if calibration.score_kind != score_kind else ''}.",
        )
