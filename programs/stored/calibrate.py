"""Calibration of gates on a stored `diagnose` run: tau and lambda of one metric and spike ratio."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from rrti_sgl.db.scored_tokens import read_scored_tokens
from rrti_sgl.db.store import Store
from rrti_sgl.engines.pair import Pair
from rrti_sgl.errors import UsageError, argument, command
from rrti_sgl.records import CalibrationRecord, ScoreKind
from rrti_sgl.science.calibration import calibrate
from rrti_sgl.science.regating import compared
from rrti_sgl.science.threshold import ThresholdRule


def calibrate_on_run(store: Store, run_id: str, *, metric: str, spike_ratio: float) -> CalibrationRecord:
    """Calibrate on the tokens of a finished `diagnose` run and store the result.

    Args:
        store: open for writing.
        run_id: the diagnose run.
        metric: the score to calibrate, e.g. "ce", or "entropy_base" for the entropy gate.
        spike_ratio: share of base tokens that are to lie above tau.

    Raises:
        UsageError: no diagnose run, one that is not finished, no scores of that metric, or a ratio that they do not allow.
    """
    run = store.get_run(run_id)
    if run.program != "diagnose":
        raise UsageError(f"Run {run_id} is of program {run.program!r}.", "Calibrate on a `diagnose` run.")
    if run.status != "finished":  # what is there of it are its shorter samples
        raise UsageError(
            f"Run {run_id} is {run.status}: its samples are not all there.", f"Finish it: `{command('run', resume=run_id)}`."
        )
    if run.base_model is None or run.reasoning_model is None:
        raise UsageError(f"Run {run_id} does not say which models it used.", "Calibrate on another run.")
    scores = store.scores(run_id, metric)
    thresholds = calibrate(np.asarray(scores), spike_ratio)
    lengths = store.sql("SELECT count(*) AS n, avg(n_tokens) AS mean FROM samples WHERE run_id = $run", {"run": run_id})
    [counts] = lengths.to_pylist()
    record = CalibrationRecord(
        calibration_id=f"{metric}-{spike_ratio:g}-{secrets.token_hex(2)}",
        run_id=run_id,
        created_at=datetime.now(UTC),
        base_model=run.base_model,
        reasoning_model=run.reasoning_model,
        tokenizer_hash=run.tokenizer_hash,
        metric=metric,
        score_kind=run.score_kind,
        k=run.k,
        spike_ratio=spike_ratio,
        tau=thresholds.tau,
        lambda_=thresholds.lambda_,
        mean_score=thresholds.mean_score,
        n_tokens=thresholds.n_tokens,
        n_samples=int(counts["n"]),
        mean_length=float(counts["mean"]),
    )
    store.add_calibration(record)
    return record


def of_what_is_compared(
    store: Store, calibration: CalibrationRecord, *, rolling: int = 1, entropy_tau: float | None = None
) -> CalibrationRecord:
    """A calibration with the thresholds of its spike ratio for what a gate compares in place of single scores.

    Args:
        store: where its rollouts are.
        calibration: of single scores.
        rolling: the mean of the last so many scores is compared.
        entropy_tau: scores are 0 where the base model's entropy does not exceed it.

    Raises:
        UsageError: its rollouts are not there, or their scores do not allow that ratio.
    """
    if rolling == 1 and entropy_tau is None:
        return calibration
    try:
        run = store.get_run(calibration.run_id)
        tokens = read_scored_tokens(store, run, calibration.metric, calibration.metric, entropy_tau=entropy_tau).tokens
        found = calibrate(compared(tokens, ThresholdRule(0.0, rolling=rolling)), calibration.spike_ratio)
    except UsageError as error:
        given = argument("rolling", rolling) if entropy_tau is None else argument("entropy_tau", entropy_tau)
        raise UsageError(
            f"{given} takes its threshold from the rollouts of calibration {calibration.calibration_id}: {error.message}",
            f"Give {argument('tau')}, or calibrate on base rollouts in this store.",
        ) from error
    return replace(calibration, tau=found.tau, lambda_=found.lambda_, mean_score=found.mean_score)


def known_calibrations(store: Store) -> str:
    """What messages say of the calibrations that there are; empty where there are none."""
    rows = store.sql(
        """
        SELECT calibration_id, metric, k, score_kind, spike_ratio, base_model, reasoning_model FROM calibrations
        ORDER BY created_at DESC LIMIT 5
        """
    ).to_pylist()
    listed = [
        f"{row['calibration_id']} ({row['metric']}, k = {row['k']}, {row['score_kind']} scores, spike ratio "
        f"{row['spike_ratio']:g}, {row['base_model']} + {row['reasoning_model']})"
        for row in rows
    ]
    return f"; it has {', '.join(listed)}" if listed else ""


def newest_calibration(
    store: Store, pair: Pair, metric: str, k: int, score_kind: ScoreKind, spike_ratio: float | None
) -> CalibrationRecord:
    """The newest stored calibration of a metric for these models, this kind of scores, and this k unless they are full.

    Raises:
        UsageError: there is none; says what to run.
    """
    rows = store.sql(
        """
        SELECT calibration_id FROM calibrations
        WHERE metric = $metric AND score_kind = $kind AND (k = $k OR $kind = 'full') AND base_model = $base
          AND reasoning_model = $reasoning AND tokenizer_hash = $tokenizer AND ($ratio IS NULL OR spike_ratio = $ratio)
        ORDER BY created_at DESC LIMIT 1
        """,
        {
            "metric": metric,
            "k": k,
            "kind": score_kind,
            "base": pair.base.info.model,
            "reasoning": pair.reasoning.info.model,
            "ratio": spike_ratio,
            "tokenizer": pair.tokenizer_hash,
        },
    ).to_pylist()
    if not rows:
        wanted = f"metric {metric}, k = {k}, {score_kind} scores" + (
            "" if spike_ratio is None else f", spike ratio {spike_ratio:g}"
        )
        raise UsageError(
            f"The store has no calibration for these models with {wanted}{known_calibrations(store)}.",
            f"Run `{command('calibrate')}` with the same options first, or give {argument('tau')}.",
        )
    return store.get_calibration(rows[0]["calibration_id"])
