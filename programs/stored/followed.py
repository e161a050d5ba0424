"""How often a stored run took over, and where: what controls of the same budget follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from rrti_sgl.db.scored_tokens import read_scored_tokens
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError, argument, command
from rrti_sgl.records import FloatArray, IntArray, RunRecord
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import Gate, Steps
from rrti_sgl.science.regating import compared
from rrti_sgl.science.threshold import ThresholdRule

BINS = 100
_AT_ONCE = 200  # samples whose lists are read together


@dataclass(frozen=True, slots=True)
class Followed:
    """The takeovers of a finished run.

    Args:
        run: its record.
        store: where it is.
        tokens: (T,) samples that have a token at each position.
        takeovers: (T,) of these, where the reasoning model wrote it.
    """

    run: RunRecord
    store: Store
    tokens: IntArray
    takeovers: IntArray

    @property
    def rho(self) -> float:
        """Takeovers per token, over the whole run."""
        return float(self.takeovers.sum() / self.tokens.sum())

    @property
    def a_sample(self) -> float:
        """Takeovers of a sample, on average."""
        return float(self.takeovers.sum() / self.tokens[0])

    def rates(self) -> tuple[list[int], list[float]]:
        """First positions of at most `BINS` bins, and the share of takeovers in each; see `takeover_rates`."""
        return takeover_rates(self.tokens, self.takeovers)

    def token_rates(self) -> tuple[list[int], list[float]]:
        """The tokens that the base model drew and that were taken over, and the share of each that was."""
        counted = self.store.sql(
            """
            SELECT base_token_id AS id, count(*) FILTER (source = 'reasoning') / count(*) AS rate
            FROM tokens WHERE run_id = $run AND base_token_id IS NOT NULL GROUP BY id HAVING rate > 0 ORDER BY id
            """,
            {"run": self.run.run_id},
            runs=[self.run.run_id],
        )
        return counted["id"].to_pylist(), counted["rate"].to_pylist()

    def signals(self, gate: Gate) -> FloatArray:
        """What another gate would see at all tokens of the run, from the lists that are stored of them.

        Raises:
            UsageError: a token lacks what the gate reads, or lists are rounded: most are so nearly certain that rounding
                decides on which side of a threshold they lie.
        """
        runs = [self.run.run_id]
        rounded = """
            SELECT count(*) FROM (
                SELECT run_id FROM compact_tokens UNION ALL BY NAME SELECT run_id FROM sealed_compact_tokens
            ) WHERE run_id = $run
        """
        if self.store.sql(rounded, {"run": runs[0]}, runs=runs).column(0)[0].as_py():
            raise UsageError(
                f"Run {runs[0]} is stored with rounded lists, of which no threshold of {gate.name} follows.",
                f"Give {argument('tau')}, or store such a run as computed: rrti db precision exact FILE, before it is made.",
            )
        query = "SELECT sample_id FROM samples WHERE run_id = $run ORDER BY sample_id"
        samples = self.store.sql(query, {"run": runs[0]}, runs=runs)["sample_id"].to_pylist()
        return np.concatenate(
            [gate.signal(self._steps(samples[at : at + _AT_ONCE], gate)) for at in range(0, len(samples), _AT_ONCE)]
        )

    def _steps(self, samples: Sequence[str], gate: Gate) -> Steps:
        """All tokens of some samples, with the lists that the gate reads."""
        sides = ("base", "reasoning") if gate.needs_reasoning else ("base",)
        lists = [f"{side}_topk_{what}" for side in sides for what in ("ids", "logprobs")]
        query = f"""
            SELECT sample_id, position, base_token_id, {", ".join(lists)} FROM tokens
            WHERE run_id = $run AND sample_id IN (SELECT unnest($samples)) ORDER BY sample_id, position
        """
        runs = [self.run.run_id]
        rows = self.store.sql(query, {"run": runs[0], "samples": list(samples)}, runs=runs)
        lengths = [pc.fill_null(pc.list_value_length(rows[name]), 0).to_numpy() for name in lists]
        k = max(int(of_list.max()) for of_list in lengths)
        shorter = np.any([of_list < max(k, 1) for of_list in lengths], axis=0)
        if shorter.any():
            raise UsageError(
                f"Sample {rows['sample_id'][int(shorter.argmax())]} of run {runs[0]} lacks lists of a model at some tokens, "
                "or has shorter ones.",
                "Follow a run whose gate scored all of them, such as one of guided, and that keeps whole lists.",
            )
        arrays = {name: rows[name].combine_chunks().flatten().to_numpy().reshape(-1, k) for name in lists}
        size = self.run.vocab_size or max(int(arrays[f"{side}_topk_ids"].max()) for side in sides) + 1
        base, *guest = [Distributions(arrays[f"{side}_topk_ids"], arrays[f"{side}_topk_logprobs"], size) for side in sides]
        positions = rows["position"].to_numpy().astype(np.int32)
        return Steps(positions, base, guest[0] if guest else None, 0, drafted=rows["base_token_id"].to_pylist())

    def scores(self, metric: str, rolling: int = 1) -> FloatArray:
        """The values of a metric at all tokens of the run, or the means of the last so many at each.

        Raises:
            UsageError: some of the tokens have none.
        """
        values = self.store.scores(self.run.run_id, metric)
        if len(values) != self.tokens.sum():
            message = f"Run {self.run.run_id} has {metric} at {len(values)} of {self.tokens.sum()} tokens."
            raise UsageError(message, "Follow a run whose gate scored all of them, such as one of guided.")
        if rolling > 1:
            tokens = read_scored_tokens(self.store, self.run, metric, metric).tokens
            return compared(tokens, ThresholdRule(0.0, rolling=rolling))
        return values


def followed_run(store: Store, reference: str) -> Followed:
    """The takeovers of a run.

    Args:
        store: where it is.
        reference: its id, a prefix of it, or a program of which there is one run.

    Raises:
        UsageError: there is no such run, or several; it is not finished, or has no takeover.
    """
    found = store.find_runs(reference)
    if len(found) > 1:
        raise UsageError(f"{reference!r} could be any of {', '.join(run.run_id for run in found)}.", "Give one id.")
    [run] = found
    if run.status != "finished":
        raise UsageError(
            f"Run {run.run_id} is not finished; its budget is not known.",
            f"Finish it: `{command('run', resume=run.run_id)}`.",
        )
    counted = store.sql(
        """
        SELECT count(*)::INTEGER AS tokens, count(*) FILTER (source = 'reasoning')::INTEGER AS takeovers
        FROM tokens WHERE run_id = $run GROUP BY position ORDER BY position
        """,
        {"run": run.run_id},
    )
    followed = Followed(run, store, counted["tokens"].to_numpy(), counted["takeovers"].to_numpy())
    if not followed.takeovers.sum():
        raise UsageError(f"Run {run.run_id} has no takeover that could be followed.", "Name a run of guided.")
    return followed


def takeover_rates(tokens: IntArray, takeovers: IntArray, bins: int = BINS) -> tuple[list[int], list[float]]:
    """Share of takeovers by position, in bins that hold about equally many tokens.

    Args:
        tokens, takeovers: (T,) at each position; every position has tokens.
        bins: at most so many; where a position holds more than a bin's share of tokens it is a bin of its own.

    Returns:
        The first position of each bin, and its rate: rates times tokens add up to the takeovers.
    """
    before = np.cumsum(tokens) - tokens
    edges = np.unique(bins * before // tokens.sum(), return_index=True)[1]
    rates = np.add.reduceat(takeovers, edges) / np.add.reduceat(tokens, edges)
    return edges.tolist(), rates.tolist()
