"""How much of the disagreement is the base model's own uncertainty: what a reader must know before any other number."""

from __future__ import annotations

import numpy as np

from rrti_sgl.db.analysis.token_values import TokenValues
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import ReportContext
from rrti_sgl.programs.tables.numbers import COEFFICIENT, LEVEL, SHARE

TOP_SHARE, LITTLE = 0.08, 0.05
_COLUMNS = ("ce", "entropy_base", "reverse_kl")
_WHAT = (
    "CE, the paper's score, is reverse KL plus the base model's own entropy: a token can be large by it where both models "
    "agree and are unsure."
)
_BESIDE = "Reverse KL and Jensen-Shannon, which are 0 where the models agree, stand beside it in every diagnosis."


def what_ce_is(context: ReportContext) -> list[str]:
    """The first paragraph: what CE is made of in each of the base rollouts; general where there are none."""
    measured = []
    try:
        runs = context.selection.rollouts
        ranks = context.points("uncertainty", runs, metric="ce", ps=[TOP_SHARE]).to_pylist()
    except UsageError:
        return [f"{_WHAT} {_BESIDE}"]
    spearman = {row["run_id"]: row["spearman"] for row in ranks if row["part"] == "rank_correlation"}
    for run, correlation in spearman.items():
        of_mass, little = _made_of(context.reader.read(run, _COLUMNS).complete(*_COLUMNS[:2]))
        if of_mass is None:
            continue
        text = f"In {context.selection.labels[run]} {SHARE.text(of_mass)} of the CE of all tokens is base entropy"
        if correlation is not None:
            text += f", their rank correlation is {COEFFICIENT.text(correlation)}"
        if little is not None:
            share = SHARE.text(little)
            text += (
                f", and of the top {LEVEL.text(TOP_SHARE)} of tokens by CE {share} have a reverse KL below {LITTLE:g} nats"
            )
        measured.append(f"{text}.")
    return [" ".join([_WHAT, *measured, _BESIDE])]


def _made_of(tokens: TokenValues) -> tuple[float | None, float | None]:
    """Base entropy over CE, both summed, and of the top tokens that have a reverse KL the share in which it is small.

    None where there is nothing to be a share of.
    """
    least = tokens.ranking("ce").threshold(TOP_SHARE)
    mass, entropy, top, little = np.zeros(4)
    for block in tokens.blocks(*_COLUMNS):
        reverse_kl = block["reverse_kl"][block["ce"] >= least]
        mass += block["ce"].sum()
        entropy += block["entropy_base"].sum()
        top += np.count_nonzero(~np.isnan(reverse_kl))
        little += np.count_nonzero(reverse_kl < LITTLE)
    return float(entropy / mass) if mass else None, float(little / top) if top else None
