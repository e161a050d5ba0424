"""What every sink refuses: a sample that contradicts itself, a run that goes on as another one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rrti_sgl.errors import CalibrationMismatchError, StoreError
from rrti_sgl.records import RunRecord, SampleTrace
from rrti_sgl.science.metrics import METRICS, token_fields

# What a run must have in common with its continuation, beside its configuration.
COMMON = ("base_model", "reasoning_model", "tokenizer_hash", "n_problems", "k", "score_kind", "tau", "lambda_", "tagger")
TOKEN_FIELDS = token_fields()


def identity(run: RunRecord) -> dict[str, Any]:
    """What runs have in common that begin alike."""
    return {name: getattr(run, name) for name in ("program", "config_hash", *COMMON)}


def check_trace(trace: SampleTrace) -> None:
    """Refuse a sample whose columns do not fit each other or its record.

    Raises:
        StoreError: naming the sample and the column.
    """
    sample, tokens = trace.sample, trace.tokens
    if tokens.metrics.keys() != METRICS.keys():
        different = ", ".join(sorted(tokens.metrics.keys() ^ METRICS.keys()))
        raise StoreError(f"Sample {sample.sample_id} has other metrics than are declared: {different}.")
    for field in TOKEN_FIELDS:
        length = len(getattr(tokens, field.name))
        if length != sample.n_tokens:
            message = f"Sample {sample.sample_id} has {sample.n_tokens} tokens, its column {field.name} {length}."
            raise StoreError(message)
    for model in ("base", "reasoning"):
        ids, logprobs = getattr(tokens, f"{model}_topk_ids"), getattr(tokens, f"{model}_topk_logprobs")
        if np.shape(ids) != np.shape(logprobs):
            raise StoreError(
                f"Sample {sample.sample_id} has {model}_topk_ids of shape {np.shape(ids)} "
                f"and logprobs of shape {np.shape(logprobs)}."
            )


def not_begun(run_id: str) -> StoreError:
    """The error for a run that a sink was not told of, or that has ended."""
    return StoreError(f"Run {run_id} is not begun in this sink, or has ended.", "Begin it; resume it if it is there.")


def closed() -> StoreError:
    """The error for a sink that was closed."""
    return StoreError("The sink is closed and takes nothing more.")


def check_unchanged(stored: RunRecord, now: RunRecord) -> None:
    """Refuse to continue a run as another one.

    Raises:
        CalibrationMismatchError: names every setting that differs, with both values.
    """
    judged = ("grader",) if stored.status != "finished" else ()  # of a finished run nothing goes on
    if found := differences(stored, now, (*COMMON, *judged)):
        raise CalibrationMismatchError(
            f"Run {stored.run_id} cannot be continued: {'; '.join(found)}.",
            "Start the same servers again, restore the problem file, install the same versions, or start a new run.",
        )


def differences(stored: RunRecord, now: RunRecord, names: Sequence[str]) -> list[str]:
    """What of two records is not the same: the fields named, and the configuration, with both values."""
    found = [
        f"{name} was {getattr(stored, name)!r} and is {getattr(now, name)!r}"
        for name in names
        if getattr(stored, name) != getattr(now, name)
    ]
    if stored.config_hash != now.config_hash:  # where a file lies, for one, is in the configuration and not in its hash
        changed = list(_in_config(stored.config, json.loads(json.dumps(now.config, default=str))))  # as it is stored
        found += changed or ["the content of its problem set is another one"]
    return found


def _in_config(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted({*before, *now}):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _in_config(old, new, f"{prefix}{name}.")
        elif old != new and (name in before or new is not None):
            yield f"{prefix}{name} was {old!r} and is {new!r}"
