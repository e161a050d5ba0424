"""What the numbers in the columns of the store, of its statistics and of comparisons are, by the column's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rrti_sgl.programs.tables.numbers import (
    BYTES,
    COEFFICIENT,
    COUNT,
    DIFFERENCE,
    IDENTIFIER,
    LEVEL,
    NATS,
    NUMBER,
    POINTS,
    RATE,
    RATIO,
    SETTING,
    SHARE,
    WHOLE_SHARE,
    Kind,
)
from rrti_sgl.science.metrics import METRICS


@dataclass(frozen=True, slots=True)
class ByRow:
    """The kind of a column that holds unlike numbers in its rows: by what another column, (its name, its value), says."""

    kinds: Mapping[tuple[str, str], Kind]

    def of(self, row: Mapping[str, Any]) -> Kind:
        """The kind in one row."""
        return next((kind for (name, value), kind in self.kinds.items() if row.get(name) == value), NUMBER)


_LONG = ByRow(
    {
        ("statistic", "gini"): COEFFICIENT,
        ("statistic", "tokens_carrying"): SHARE,
        ("statistic", "carried_by_top"): SHARE,
        ("statistic", "lorenz"): SHARE,
        ("quantity", "rho"): RATE,
        ("count", "accuracy"): SHARE,
    }
)
_NAMES: tuple[tuple[Kind | ByRow, str], ...] = (
    (
        SHARE,
        "accuracy pass_at_k truncated share share_all share_top share_first coverage best_coverage covered graded with_k",
    ),
    (SHARE, "accuracy_sd pass_at_k_sd rate"),
    (SHARE, "decisions_changed changed_at_tau taken denied necessary harmful answers pivotal control jump raises"),
    (SHARE, "first five listed host_probability host_on_first guest_on_first host_on_five guest_on_five"),
    (LEVEL, "level p"),
    (WHOLE_SHARE, "recovery_accuracy recovery_pass knee_support"),
    (POINTS, "difference effect lead accuracy_over_base accuracy_over_guided pass_over_base pass_over_guided"),
    (RATE, "rho rho_mean rho_pooled changed budget problem_sd realised_budget rho_sd"),
    (COEFFICIENT, "gini iou iou_chance spearman pearson auroc average_precision precision recall f1 u u_low u_high middle"),
    (RATIO, "enrichment odds_ratio odds_over_all density_all density_top density_ratio"),
    (DIFFERENCE, "orders"),
    (NATS, "mean"),
    (NUMBER, "tau lambda lambda_ keyness distance p_exact p_mid score_low score_high value_low value_high"),
    (NUMBER, "mean_difference smallest_difference largest_difference bound_excess"),
    (NUMBER, " ".join(("per_token score local_mean", *METRICS))),
    (COUNT, "total n_samples n_tokens mean_length"),
    (SETTING, "spike_ratio temperature top_p window"),
    (IDENTIFIER, "k top_k token_id base_token_id reasoning_token_id position decile sample_index curve_id seed"),
    (BYTES, "bytes sealed_bytes"),
    (_LONG, "value sd smallest q25 median q75 largest"),
)
KINDS: Mapping[str, Kind | ByRow] = {name: kind for kind, names in _NAMES for name in names.split()}


def named_text(name: str, value: Any) -> str:
    """A single value as a column of that name shows it."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    kind = KINDS.get(name, COUNT if isinstance(value, int) else NUMBER)
    return (kind if isinstance(kind, Kind) else NUMBER).text(value)
