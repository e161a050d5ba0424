"""What an experiment will cost: tokens, requests, bytes and, once something has been measured, seconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rrti_sgl.programs.experiments.grid import Cell

# Programs whose gate scores every drafted token by both models.
SCORING = frozenset({"guided", "relay"})
SCORED_ROLLOUTS = frozenset({"diagnose"})
# Those that nothing interrupts: a solution is one request.
WHOLE_SOLUTIONS = frozenset({"base", "reasoning"}) | SCORED_ROLLOUTS
# Requests for a draft's worth of tokens: the draft, its scores and what takeovers need; a fifth of the drafted tokens is
# thrown away. Measured at drafts of 12 and takeover rates from 4 to 25 %, docs/performance.md.
SCORING_REQUESTS_A_DRAFT = 2.8
DRAFTING_REQUESTS_A_DRAFT = 1.25
# Bytes of a stored token in the store's compact layout: a constant part, and a part for each entry of the top-k list of
# one model, or of both. Measured with benchmarks/store.py (vocabulary of 151,936, k = 20).
ONE_MODEL_BYTES = (40.0, 3.8)
BOTH_MODELS_BYTES = (75.0, 6.3)


@dataclass(frozen=True, slots=True)
class CellCost:
    """What one run will take.

    Args:
        samples: how many.
        tokens: generated tokens that are planned with; None where nothing is known about their number.
        most_tokens: if every solution is as long as it may be.
        requests: to both servers, for `tokens`.
        disk_bytes: of the store, for `tokens`.
        most_disk_bytes: for `most_tokens`.
    """

    samples: int
    tokens: int | None
    most_tokens: int
    requests: int | None
    disk_bytes: int | None
    most_disk_bytes: int


def cell_cost(cell: Cell, n_problems: int, max_new_tokens: int, vocab_size: int, *, whole: bool = False) -> CellCost:
    """The cost of a run, from the evaluation's typical length of a solution and from its limit.

    One server for both models and an endpoint are asked once for each sample (`whole`).
    """
    samples = n_problems * cell.settings.samples
    alone = cell.settings.program == "reasoning"
    typical = cell.evaluation.typical_reasoning_tokens if alone else cell.evaluation.typical_tokens
    tokens = None if typical is None else samples * min(typical, max_new_tokens)
    each = bytes_a_token(cell, vocab_size)
    return CellCost(
        samples,
        tokens,
        samples * max_new_tokens,
        None if tokens is None else samples if whole else requests_for(cell, samples, tokens),
        None if tokens is None else round(tokens * each),
        round(samples * max_new_tokens * each),
    )


def bytes_a_token(cell: Cell, vocab_size: int) -> float:
    """Bytes of one token of a run in the store."""
    k = cell.settings.k or vocab_size
    both = cell.settings.program in SCORING | SCORED_ROLLOUTS
    constant, of_entry = BOTH_MODELS_BYTES if both else ONE_MODEL_BYTES
    return constant + k * of_entry


def requests_for(cell: Cell, samples: int, tokens: int) -> int:
    """Requests to both servers."""
    settings = cell.settings
    if settings.program in WHOLE_SOLUTIONS:
        return samples * (2 if settings.program in SCORED_ROLLOUTS else 1)
    if settings.decoding == "lockstep":
        return 2 * tokens
    a_draft = SCORING_REQUESTS_A_DRAFT if settings.program in SCORING else DRAFTING_REQUESTS_A_DRAFT
    drafts = tokens / settings.draft_tokens
    followed = cell if cell.followed is None else cell.followed
    by_budget = followed.settings.program in ("random", "early")
    rate = followed.settings.gate.budget if by_budget else followed.settings.gate.spike_ratio or 0.0
    return round(drafts * a_draft + (0.0 if settings.program in SCORING else tokens * rate))


@dataclass(frozen=True, slots=True)
class Measured:
    """How a run went, or goes: samples and tokens so far, and the seconds that these took."""

    cell: Cell
    samples: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is left of a run: samples that are not there yet."""

    cell: Cell
    samples: int


def seconds_left(measured: Sequence[Measured], waiting: Sequence[Waiting]) -> float | None:
    """Seconds that the waiting samples will take; None while nothing has been measured.

    A sample is as long as those of the most similar run that was measured, and its tokens take as long as that run's: the
    same evaluation and the same kind of decoding first, then the same kind, then anything. A typical length that the file
    gives stands in for the length of an evaluation of which nothing is known.
    """
    known = [run for run in measured if run.samples > 0 and run.tokens > 0 and run.seconds > 0]
    if not waiting:
        return 0.0
    if not known:
        return None
    total = 0.0
    for run in waiting:
        speed = _nearest(known, run.cell, lambda a, b: (_kind(a) == _kind(b), a.evaluation.name == b.evaluation.name))
        length = _length(known, run.cell)
        total += run.samples * length * speed.seconds / speed.tokens
    return total


def _length(known: Sequence[Measured], cell: Cell) -> float:
    """Tokens that a sample of a run is expected to have."""
    same = [run for run in known if run.cell.evaluation.name == cell.evaluation.name and _writer(run.cell) == _writer(cell)]
    if same:
        return sum(run.tokens for run in same) / sum(run.samples for run in same)
    typical = cell.evaluation.typical_reasoning_tokens if _writer(cell) else cell.evaluation.typical_tokens
    if typical is not None:
        return float(typical)
    near = _nearest(known, cell, lambda a, b: (a.evaluation.name == b.evaluation.name, _writer(a) == _writer(b)))
    return near.tokens / near.samples


def _nearest(known: Sequence[Measured], cell: Cell, likeness: Callable[[Cell, Cell], tuple[bool, bool]]) -> Measured:
    """The measured run that is most like a cell, the longest of several."""
    return max(known, key=lambda run: (likeness(run.cell, cell), run.tokens))


def _writer(cell: Cell) -> bool:
    """Whether a reasoning model writes alone."""
    return cell.settings.program == "reasoning"


def _kind(cell: Cell) -> str:
    program = cell.settings.program
    return program if program in ("base", "reasoning", "diagnose") else "scoring" if program in SCORING else "drafting"
