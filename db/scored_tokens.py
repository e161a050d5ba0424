"""The positions of a stored run at which a gate is asked, as columns, read some samples at a time.

A gate is asked wherever the base model drew a token (`base_token_id`), in order of position: at every token, except for
those that a takeover of several tokens covers. What the run's own gate saw is read from `score`, which is what decided.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray, RunRecord
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.science.regating import ScoredTokens

ROWS_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class RunTokens:
    """The positions of one run, with the names of its samples and problems.

    Args:
        run: the run.
        metric: what the scores are.
        tokens: the positions.
        sample_ids: (S,) in the order of `tokens`.
        problem_ids: (P,) by their numbers in `tokens`.
        disagreement: what coverage is measured in; None where the run does not have it everywhere.
    """

    run: RunRecord
    metric: str
    tokens: ScoredTokens
    sample_ids: Sequence[str]
    problem_ids: Sequence[str]
    disagreement: str | None


def read_scored_tokens(
    store: Store,
    run: RunRecord,
    metric: str,
    disagreement: str | None,
    *,
    entropy_tau: float | None = None,
    rows_at_once: int = ROWS_AT_ONCE,
) -> RunTokens:
    """The positions of a run with one metric as score and another as disagreement.

    Args:
        store: where it is.
        run: the run.
        metric: what the gate is to see, one of `METRICS`.
        disagreement: what coverage is measured in; None takes ce where every position has it.
        entropy_tau: the score is 0 where the base model's entropy does not exceed it (`rrti_sgl.science.doubt`).
        rows_at_once: tokens read by one query; at least one sample is.

    Raises:
        UsageError: an unknown metric; a run without samples or whose base model was never asked, one that continues other
            samples (program counterfactual), or one that has the metric at some of its positions only.
    """
    for name in (metric, disagreement or metric):
        if name not in METRICS:
            raise UsageError(f"Metric {name!r} is unknown.", f"Use one of {', '.join(METRICS)}.")
    samples = _samples(store, run)
    asked = int(samples["n"].sum())
    covered = {name: int(samples[name].sum()) for name in METRICS}
    for name in (metric, disagreement or metric, "entropy_base" if entropy_tau is not None else metric):
        if covered[name] < asked:
            raise _not_covered(run, name, covered, asked)
    if disagreement is None and covered["ce"] == asked:
        disagreement = "ce"
    names = f"{_score(run, metric, entropy_tau)} AS score, {_column(run, disagreement or metric)} AS disagreement, fired"
    scores, known, fired = np.empty(asked), np.empty(asked if disagreement else 0), np.empty(asked, dtype=np.bool_)
    done = 0
    for part in _read(store, run, samples, names, rows_at_once):
        place = slice(done, done := done + part.num_rows)
        scores[place], fired[place] = _floats(part, "score"), part.column("fired").to_numpy(zero_copy_only=False)
        if disagreement:
            known[place] = _floats(part, "disagreement")
    problem_ids, problems = np.unique(samples["problem_id"], return_inverse=True)
    tokens = ScoredTokens(
        scores, samples["n"].astype(np.int32), problems.astype(np.int32), known if disagreement else None, fired
    )
    return RunTokens(run, metric, tokens, samples["sample_id"].tolist(), problem_ids.tolist(), disagreement)


def read_positions(
    store: Store, found: RunTokens, chosen: BoolArray, *, rows_at_once: int = ROWS_AT_ONCE
) -> Iterator[pa.Table]:
    """The chosen positions (N,) as rows, some samples at a time, in order of sample and position.

    Columns: sample_id, problem_id, position, token_text, base_token_text, source, score, fired (in the stored run).
    """
    samples = {
        "sample_id": np.asarray(found.sample_ids, dtype=object),
        "n": found.tokens.lengths,
    }
    problems = np.asarray(found.problem_ids, dtype=object)[found.tokens.problems]
    problem_of = dict(zip(found.sample_ids, problems, strict=True))
    columns = f"sample_id, position, token_text, base_token_text, source, {_column(found.run, found.metric)} AS score, fired"
    done = 0
    for part in _read(store, found.run, samples, columns, rows_at_once):
        rows = part.filter(pa.array(chosen[done : done + part.num_rows]))
        done += part.num_rows
        names = pa.array([problem_of[name] for name in rows.column("sample_id").to_pylist()], pa.string())
        yield rows.add_column(1, "problem_id", names)


def _samples(store: Store, run: RunRecord) -> dict[str, Any]:
    """By column: the samples of the run, how many positions each has, and how many of them carry each metric."""
    counts = ", ".join(f"count({name}) FILTER (base_token_id IS NOT NULL) AS {name}" for name in METRICS)
    found = store.sql(
        f"""
        WITH counted AS (
            SELECT sample_id, count(base_token_id) AS n, {counts} FROM tokens WHERE run_id = $run GROUP BY sample_id
        )
        SELECT counted.*, problem_id, parent_sample_id IS NOT NULL AS continued
        FROM counted JOIN (FROM samples WHERE run_id = $run) USING (sample_id) ORDER BY sample_id
        """,
        {"run": run.run_id},
        runs=[run.run_id],
    )
    columns = {name: found.column(name).to_numpy(zero_copy_only=False) for name in found.column_names}
    if not found.num_rows:
        raise UsageError(f"Run {run.run_id} has no samples yet.", "Name another run.")
    if columns["continued"].any():
        raise UsageError(
            f"Run {run.run_id} ({run.program}) continues other samples; what its gate saw of them is not in the run.",
            "Re-gate the run that they belong to.",
        )
    asked = columns["n"] > 0
    if not asked.any():
        raise UsageError(
            f"In run {run.run_id} ({run.program}) the base model was never asked: there is nothing to gate.",
            "Name a diagnose run.",
        )
    return {name: column[asked] for name, column in columns.items()}


def _not_covered(run: RunRecord, metric: str, covered: dict[str, int], asked: int) -> UsageError:
    whole = ", ".join(name for name in METRICS if covered[name] == asked)
    return UsageError(
        f"Run {run.run_id} ({run.program}) has {metric} at {covered[metric]:,} of its {asked:,} positions; "
        "a gate has to see all of them.",
        f"At all of them it has: {whole or 'no metric'}. Choose one, or a diagnose run.",
    )


def _column(run: RunRecord, metric: str) -> str:
    return "score" if metric == run.metric and "entropy_tau" not in run.gate_params else metric


def _score(run: RunRecord, metric: str, entropy_tau: float | None) -> str:
    if entropy_tau is None:
        return _column(run, metric)
    if (metric, entropy_tau) == (run.metric, run.gate_params.get("entropy_tau")):
        return "score"
    return f"CASE WHEN {_column(run, 'entropy_base')} > {entropy_tau!r}::DOUBLE THEN {_column(run, metric)} ELSE 0 END"


def _read(store: Store, run: RunRecord, samples: dict[str, Any], columns: str, rows_at_once: int) -> Iterator[pa.Table]:
    """The positions of the run in order of sample and position, whole samples at a time."""
    query = f"""
        SELECT {columns} FROM tokens
        WHERE run_id = $run AND sample_id BETWEEN $first AND $last AND base_token_id IS NOT NULL
        ORDER BY sample_id, position
    """
    part = (np.cumsum(samples["n"]) - 1) // rows_at_once
    edges = [0, *(np.flatnonzero(np.diff(part)) + 1), len(part)]
    for begin, end in pairwise(edges):
        ids = samples["sample_id"]
        yield store.sql(query, {"run": run.run_id, "first": ids[begin], "last": ids[end - 1]}, runs=[run.run_id])


def _floats(part: pa.Table, name: str) -> Any:
    return np.asarray(part.column(name).to_numpy(), dtype=np.float64)
