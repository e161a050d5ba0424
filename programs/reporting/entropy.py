"""How much of the disagreement is the base model's own uncertainty: what a reader must know before any other number."""

from __future__ import annotations

from pathlib import Path

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import ReportContext
from rrti_sgl.programs.tables.numbers import COEFFICIENT, LEVEL, SHARE

TOP_SHARE, LITTLE = 0.08, 0.05
_SQL = Path(__file__).with_name("queries") / "entropy.sql"
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
        [found] = context.store.sql(
            _SQL.read_text(encoding="utf-8"), {"run": run, "p": TOP_SHARE, "little": LITTLE}, runs=[run]
        ).to_pylist()
        if found["of_mass"] is None:
            continue
        text = f"In {context.selection.labels[run]} {SHARE.text(found['of_mass'])} of the CE of all tokens is base entropy"
        if correlation is not None:
            text += f", their rank correlation is {COEFFICIENT.text(correlation)}"
        if found["little_of_top"] is not None:
            share = SHARE.text(found["little_of_top"])
            text += (
                f", and of the top {LEVEL.text(TOP_SHARE)} of tokens by CE {share} have a reverse KL below {LITTLE:g} nats"
            )
        measured.append(f"{text}.")
    return [" ".join([_WHAT, *measured, _BESIDE])]
