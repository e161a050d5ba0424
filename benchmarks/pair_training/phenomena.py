"""Where the two models disagree on base rollouts: sparsity, position, uncertainty, words, planted decisions, failures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pair_training.evaluation import Rollout
from rrti_sgl.statistics.lorenz import LorenzBins
from rrti_sgl.statistics.ranking import Ranking
from rrti_sgl.statistics.roc import quality_of
from rrti_sgl.tinypair.problems import WorldProblem
from rrti_sgl.tinypair.solutions import ANSWER_WORD, END_MARKER, FIRST_MARKER, LATER_MARKERS, TAKE_BACK_WORD
from rrti_sgl.tinypair.solutions import planted_positions as planted
from rrti_sgl.tinypair.tokenizer import VOCABULARY

PLANNING_WORDS = frozenset({FIRST_MARKER, *LATER_MARKERS, END_MARKER, TAKE_BACK_WORD, ANSWER_WORD})
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


def area_under_roc(scores: FloatArray, positive: BoolArray) -> float:
    """Return the probability that a positive scores above a negative, ties counting half: (N,), (N,)."""
    auroc, _ = quality_of(Ranking.of(scores), Ranking.of(scores[positive]))
    return float(auroc[0])


def phenomena(
    problems: Sequence[WorldProblem], rollouts: Sequence[Rollout], right: FloatArray, share: float
) -> dict[str, Any]:
    """Describe the disagreement on base rollouts; ``share`` is that of the tokens called top-divergence below."""
    scores = np.concatenate([r.cross_entropy for r in rollouts])
    entropies = np.concatenate([r.base_entropy for r in rollouts])
    relative = np.concatenate([np.arange(len(r.ids)) / len(r.ids) for r in rollouts])
    words = [VOCABULARY[index] for r in rollouts for index in r.ids]
    planning = np.array([word in PLANNING_WORDS for word in words])
    decisions = np.concatenate([_marks(p, r) for p, r in zip(problems, rollouts, strict=True)])
    ranking = Ranking.of(scores)
    divergent, uncertain = ranking.in_top(scores, share), Ranking.of(entropies).in_top(entropies, share)
    first_percent = ranking.in_top(scores, 0.01)
    failed = right == 0
    # A divergence may end one rounding below 0.
    concentration, concentration_kl = (LorenzBins.of(np.maximum(each, 0.0)) for each in (scores, scores - entropies))
    return {
        "gini_cross_entropy": float(concentration.gini()[0]),
        "gini_kl": float(concentration_kl.gini()[0]),
        "tokens_carrying_80_percent_cross_entropy": float(concentration.tokens_carrying(0.8)[0]),
        "tokens_carrying_80_percent_kl": float(concentration_kl.tokens_carrying(0.8)[0]),
        "top_1_percent_in_first_fifth": float((relative[first_percent] < 0.2).mean()),
        "top_1_percent_at_position_0": float((relative[first_percent] == 0).mean()),
        "top_share": share,
        "top_in_first_fifth": float((relative[divergent] < 0.2).mean()),
        "overlap_with_entropy_iou": float((divergent & uncertain).sum() / (divergent | uncertain).sum()),
        "planning_words": {
            "overall": float(planning.mean()),
            "top_cross_entropy": float(planning[divergent].mean()),
            "top_entropy": float(planning[uncertain].mean()),
        },
        "planted_decisions": {
            "share_of_tokens": float(decisions.mean()),
            "precision_top_cross_entropy": float(decisions[divergent].mean()),
            "recall_top_cross_entropy": float(divergent[decisions].mean()),
            "precision_top_entropy": float(decisions[uncertain].mean()),
            "recall_top_entropy": float(uncertain[decisions].mean()),
        },
        "failure_auroc": {
            "cross_entropy": area_under_roc(_largest_mean(rollouts, "cross_entropy"), failed),
            "entropy": area_under_roc(_largest_mean(rollouts, "base_entropy"), failed),
        },
    }


def _marks(problem: WorldProblem, rollout: Rollout) -> BoolArray:
    marks = np.zeros(len(rollout.ids), dtype=bool)
    marks[planted(problem, [VOCABULARY[index] for index in rollout.ids])] = True
    return marks


def _largest_mean(rollouts: Sequence[Rollout], name: str, n: int = 8) -> FloatArray:
    """Return the mean of each rollout's ``n`` largest scores, (R,)."""
    return np.array([np.mean(sorted(getattr(r, name))[-n:]) for r in rollouts])
