"""The model card's tables, written from ``metrics.json`` so that the two cannot part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def load_metrics(path: Path) -> dict[str, Any]:
    """Read a ``metrics.json``."""
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def update_card(card: Path, metrics: dict[str, Any]) -> None:
    """Replace what stands between the markers of a model card by the measured tables."""
    head, _, rest = card.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    card.write_text(f"{head}{BEGIN}\n{measured_tables(metrics)}\n{END}{tail}")


def measured_tables(metrics: dict[str, Any]) -> str:
    """Return the tables in Markdown. Brackets are 95 % intervals, bootstrapped over problems."""
    parts = (_greedy, _sampled, _by_traps, _phenomena)
    return "\n\n".join(part(metrics) for part in parts)


def _greedy(metrics: dict[str, Any]) -> str:
    rows = [["greedy", "accuracy (s.e.)", "by seed", "rho", "tokens changed", "recovery"]]
    for name, row in metrics["greedy"].items():
        recovery = _interval(row["recovery"]) if "recovery" in row else ""
        budget = [f"{row[key]:.3f}" if key in row else "" for key in ("rho", "tokens_changed")]
        accuracy = f"{row['accuracy']:.3f} ({row['standard_error']:.3f})"
        by_seed = " / ".join(f"{value:.3f}" for value in metrics["by_seed"][name])
        rows.append([name, accuracy, by_seed, *budget, recovery])
    ahead = "; ".join(f"{_interval(value)} ahead of {name}" for name, value in metrics["ahead_of"].items())
    headline = metrics["headline"]
    notes = (
        f"{metrics['problems']} held-out problems; {headline} is {ahead} (paired differences in accuracy). "
        f"Written equations of the base model that hold: {metrics['equations_right']:.4f}."
    )
    return f"{_table(rows)}\n\n{notes}"


def _sampled(metrics: dict[str, Any]) -> str:
    sampled = metrics["sampled"]
    title = f"temperature {sampled['temperature']}, {sampled['problems']} problems"
    rows = [[title, "accuracy", "pass@8"]]
    for name, row in sampled["rows"].items():
        rows.append([name, _interval(row["accuracy"]), _interval(row["pass@8"])])
    return _table(rows)


def _by_traps(metrics: dict[str, Any]) -> str:
    groups = metrics["by_traps"]
    names = [name for name in next(iter(groups.values())) if name != "problems"]
    rows = [["traps", "problems", *names]]
    for group, row in groups.items():
        label = group if group.isdigit() else f"1, {group}"
        rows.append([label, str(row["problems"]), *(f"{row[name]:.3f}" for name in names)])
    return _table(rows)


def _phenomena(metrics: dict[str, Any]) -> str:
    by_share = metrics["phenomena"]
    found = next(iter(by_share.values()))
    auroc = found["failure_auroc"]
    rows = [
        ["on base rollouts", "cross-entropy", "base entropy"],
        [f"Gini coefficient (KL: {found['gini_kl']:.3f})", f"{found['gini_cross_entropy']:.3f}", ""],
        ["share of tokens with 80 % of the sum", f"{found['tokens_carrying_80_percent_cross_entropy']:.3f}", ""],
        ["top 1 % of tokens in the first fifth", f"{found['top_1_percent_in_first_fifth']:.3f}", ""],
        ["failure, AUROC of the mean of the 8 largest"] + [f"{auroc[key]:.3f}" for key in ("cross_entropy", "entropy")],
    ]
    for share, top in by_share.items():
        label = f"top {float(share):.0%}"
        planning, planted = top["planning_words"], top["planted_decisions"]
        scores = ("cross_entropy", "entropy")
        rows += [
            [f"{label}: planning words (overall {planning['overall']:.3f})"]
            + [f"{planning[f'top_{key}']:.3f}" for key in scores],
            [f"{label}: planted decisions, precision"] + [f"{planted[f'precision_top_{key}']:.3f}" for key in scores],
            [f"{label}: planted decisions, recall"] + [f"{planted[f'recall_top_{key}']:.3f}" for key in scores],
            [f"{label}: overlap of the two (IoU)", f"{top['overlap_with_entropy_iou']:.3f}", ""],
        ]
    return _table(rows)


def _interval(value: list[float]) -> str:
    return "{:.3f} [{:.3f}, {:.3f}]".format(*value)


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])
