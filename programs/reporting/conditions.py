"""Under which conditions runs were made: when, and what their servers were, as far as these told it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rrti_sgl.records import RunRecord

MOST_SEEDS = 8  # that are named one by one


def conditions(records: Sequence[RunRecord]) -> list[str]:
    """One sentence for each set of runs whose servers were alike: dates, seeds, versions, dtype, back end, hardware."""
    alike: dict[str, list[RunRecord]] = {}
    for run in records:
        alike.setdefault(_servers(run), []).append(run)
    sentences = []
    for servers, runs in alike.items():
        dates = sorted({f"{run.created_at:%Y-%m-%d}" for run in runs})
        when = dates[0] if len(dates) == 1 else f"from {dates[0]} to {dates[-1]}"
        which = "The runs were" if len(alike) == 1 else f"{len(runs)} of the runs {'was' if len(runs) == 1 else 'were'}"
        versions = ", ".join(sorted({run.package_version for run in runs}))
        sentences.append(f"{which} made {when} by rrti-sgl {versions}, {_seeds(runs)}. {servers}")
    return sentences


def _seeds(runs: Sequence[RunRecord]) -> str:
    seeds = sorted({run.seed for run in runs})
    if len(seeds) > MOST_SEEDS:
        return f"{len(seeds)} seeds from {seeds[0]} to {seeds[-1]}"
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _servers(run: RunRecord) -> str:
    base, reasoning = server_text(run.base_server), server_text(run.reasoning_server)
    return f"Both servers: {base}." if base == reasoning else f"Base server: {base}. Reasoning server: {reasoning}."


def server_text(details: Mapping[str, Any]) -> str:
    """A server in words, from what a run has of it."""
    if not details.get("version"):
        return "nothing is recorded"
    parts = [
        f"SGLang {details['version']}",
        f"torch {details.get('torch') or 'not recorded'}",
        f"dtype {details.get('dtype') or 'not recorded'}",
        f"attention backend {details.get('attention_backend') or 'not recorded'}",
        f"on {details.get('hardware') or details.get('device') or 'hardware that is not recorded'}",
    ]
    if details.get("replicas"):
        parts.append(f"{details['replicas']} replicas")
    if details.get("enable_deterministic_inference"):
        parts.append("deterministic inference")
    return ", ".join(parts)
