"""What was found, in a few sentences: the first thing that a report says, from the tables of its sections."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rrti_sgl.programs.reporting.context import Finished
from rrti_sgl.programs.reporting.runs import Comparison, RunSelection, followed_by, kind_of, leading_guided
from rrti_sgl.programs.reporting.sections.failure import LEAST_WITH_K
from rrti_sgl.programs.tables.numbers import COEFFICIENT, COUNT, SHARE, WHOLE_SHARE

Row = Mapping[str, Any]
MOST_ROLLOUTS = 3  # that are told of


def findings(selection: RunSelection, sections: Sequence[Finished]) -> list[str]:
    """Paragraphs: what takeovers achieved in each comparison, and what the diagnosis says.

    Args:
        selection: the runs of the report.
        sections: as they were made; what they lack is left out.
    """
    rows = {table.name: table.data.to_pylist() for finished in sections for table in finished.content.tables}
    said = []
    for comparison in selection.comparisons:
        of_runs = {row["run_id"]: row for row in rows.get(f"accuracy-{comparison.name}", []) if row.get("run_id")}
        said.append(" ".join(_achieved(selection, comparison, of_runs)))
    found = [paragraph for paragraph in (*said, " ".join(_diagnosis(rows))) if paragraph]
    return found or [
        "These runs hold neither a run with takeovers that is graded nor base rollouts that both models scored."
    ]


def _achieved(selection: RunSelection, comparison: Comparison, rows: Mapping[str, Row]) -> Iterator[str]:
    """What the leading guided run of a comparison achieved, and what as many takeovers of other tokens do."""
    guided = rows.get(leading_guided(selection, comparison) or "")
    if guided is None or guided["accuracy"] is None:
        return
    label, share = comparison.labels[guided["run_id"]], SHARE.text(guided["rho_pooled"])
    text = f"On {comparison.title}, {label} took over {share} of the tokens"
    text += "" if guided["changed"] is None else f", changed {SHARE.text(guided['changed'])}"
    text += f" and answered {_accuracy(guided)} right"
    names = ("reasoning", "base") if comparison.exchanged else ("base", "reasoning")
    ends = zip(names, (rows.get(run or "") for run in (comparison.base, comparison.reasoning)), strict=True)
    alone = [f"the {name} model alone {_accuracy(row)}" for name, row in ends if row is not None]
    text += f"; {', '.join(alone)}" if alone else ""
    if guided.get("recovery_accuracy") is not None:
        text += f": {WHOLE_SHARE.text(guided['recovery_accuracy'])} of the way from one to the other"
    yield f"{text}."
    records = {run.run_id: run for run in selection.records}
    controls: dict[str, list[str]] = {}
    for run, row in rows.items():
        if row["accuracy"] is not None and (followed := followed_by(records[run])) in rows:
            controls.setdefault(followed, []).append(f"{kind_of(records[run])} {SHARE.text(row['accuracy'])}")
    for followed, said in controls.items():
        other = "" if followed == guided["run_id"] else f" as {comparison.labels[followed]} ({_accuracy(rows[followed])})"
        yield f"With as many takeovers of other tokens{other}: {', '.join(said)}."


def _accuracy(row: Row) -> str:
    return SHARE.interval(row["accuracy"], row.get("accuracy_low"), row.get("accuracy_high"))


def _diagnosis(rows: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Of base rollouts: how few tokens carry the disagreement, how many of them plan, whether they tell wrong answers."""
    planning = {(row["run"], row["set"]): row["share"] for row in rows.get("planning", ())}
    failure = {row["run"]: row for row in rows.get("failure", ()) if row["predictor"] == "ce"}
    for row in [row for row in rows.get("sparsity", ()) if row["metric"] == "ce"][:MOST_ROLLOUTS]:
        run = row["run"]
        text = (
            f"In {run}, {SHARE.text(row['carrying_80'])} of {COUNT.text(row['n_tokens'])} tokens carry 80 % of the "
            f"disagreement (CE, Gini {COEFFICIENT.text(row['gini'])})"
        )
        top, whole = (planning.get((run, tokens)) for tokens in ("top 8% by ce", "all tokens"))
        if top is not None and whole is not None:
            text += f"; planning words are {SHARE.text(top)} of its top 8 % of tokens and {SHARE.text(whole)} of all"
        if run in failure and failure[run]["auroc"] is not None:
            few = failure[run]["with_k"] < LEAST_WITH_K
            of = "a sample" if few else f"the {failure[run]['top_k']} tokens of a sample where it is largest"
            text += (
                f"; the mean CE of {of} tells wrong answers from right ones, AUROC {COEFFICIENT.text(failure[run]['auroc'])}"
            )
        yield f"{text}."
