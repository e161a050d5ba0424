"""Token rows of whole samples as Arrow tables, in either layout of the store.

The exact layout has the columns of `TokenColumns` as they are. The compact layout, the default, keeps what decided
(`score`, `local_mean`) exactly, numbers beside it in single precision, log-probabilities of lists as codes of one byte, and
nothing twice: the metric that the score is, a base token's text equal to the emitted token's, the emitted tokens of the
reasoning model, and the ids that both lists hold are left out and put back by the view `tokens`. `rrti_sgl.db.quantisation`
states the bounds; a sample that does not keep to them goes into the exact layout, whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rrti_sgl.db import quantisation
from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray, SampleTrace

Precision = Literal["compact", "exact"]
EXACT_TABLE, COMPACT_TABLE = "exact_tokens", "compact_tokens"
BLOCK = 8192
# What a score can be a copy of, in the order in which it is looked for.
SCORED = ("ce", "kl", "reverse_kl", "js", "tv", "entropy_base", "entropy_reasoning")
REALS = (*SCORED, "base_logprob", "reasoning_logprob", "base_tail_mass", "reasoning_tail_mass")
IDS = ("base_token_id", "reasoning_token_id", "planted")
MOST_IDS = 32_767  # in a list, so that ranks in two of them are 16-bit numbers


@dataclass(frozen=True)
class _Rows:
    """The tokens of samples whose lists have the same widths, one after the other."""

    traces: Sequence[SampleTrace]

    @property
    def lengths(self) -> NDArray[np.int64]:
        return np.array([len(trace.tokens.token_id) for trace in self.traces], dtype=np.int64)

    def numbers(self, name: str, dtype: Any) -> Any:
        return np.concatenate([np.asarray(getattr(trace.tokens, name)) for trace in self.traces]).astype(dtype, copy=False)

    def texts(self, name: str) -> pa.Array:
        columns = (getattr(trace.tokens, name) for trace in self.traces)
        return pa.array(list(itertools.chain.from_iterable(columns)), pa.string())

    def from_reasoning(self) -> BoolArray:
        """Whether the emitted token is the reasoning model's: (rows,)."""
        taken: BoolArray = pc.equal(self.texts("source"), "reasoning").to_numpy(zero_copy_only=False)
        return taken

    def each_sample(self, rows: BoolArray) -> BoolArray:
        """Whether a condition holds for all rows of a sample: (rows,) -> (samples,)."""
        starts = np.concatenate([[0], np.cumsum(self.lengths)[:-1]])
        holds, filled = np.ones(len(starts), dtype=np.bool_), self.lengths > 0  # a sample may be over before its first token
        if filled.any():
            holds[filled] = np.logical_and.reduceat(rows, starts[filled])
        return holds

    def keys(self) -> dict[str, pa.Array]:
        lengths = self.lengths
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return {
            "run_id": _repeated([trace.sample.run_id for trace in self.traces], lengths),
            "sample_id": _repeated([trace.sample.sample_id for trace in self.traces], lengths),
            "position": pa.array((np.arange(lengths.sum()) - starts).astype(np.int32)),
        }

    def shared(self) -> dict[str, pa.Array]:
        """Columns that both layouts have alike."""
        columns = self.keys()
        columns["token_id"] = pa.array(self.numbers("token_id", np.int32))
        columns |= {name: self.texts(name) for name in ("token_text", "source", "planning_tag")}
        columns["fired"] = pa.array(self.numbers("fired", np.bool_))
        for name in IDS:
            ids = self.numbers(name, np.int32)
            columns[name] = pa.array(ids, mask=ids < 0)
        columns |= {name: _nullable(self.numbers(name, np.float64)) for name in ("score", "local_mean")}
        return columns


def check_precision(precision: str) -> None:
    """Raises UsageError where there is no such precision."""
    if precision not in get_args(Precision):
        raise UsageError(f"There is no precision {precision!r}.", f"Choose one of: {', '.join(get_args(Precision))}.")


def token_tables(traces: Sequence[SampleTrace], precision: Precision) -> dict[str, pa.Table]:
    """The token rows of samples by the table that they go into, each sample's rows together and in order.

    Args:
        traces: samples that `rrti_sgl.sinks.refusals.check_trace` accepts.
        precision: the layout wanted; samples that do not fit the compact one are in the exact one all the same.
    """
    tables: dict[str, list[pa.Table]] = {}
    for rows in _of_equal_widths(traces):
        compact = _fits(rows) if precision == "compact" else np.zeros(len(rows.traces), dtype=bool)
        for name, build, chosen in ((COMPACT_TABLE, _compact, compact), (EXACT_TABLE, _exact, ~compact)):
            if chosen.any():
                part = rows if chosen.all() else _Rows(list(itertools.compress(rows.traces, chosen)))
                tables.setdefault(name, []).append(pa.table(build(part)))
    return {name: pa.concat_tables(parts) for name, parts in tables.items()}


def _of_equal_widths(traces: Sequence[SampleTrace]) -> Iterator[_Rows]:
    groups: dict[tuple[int, int], list[SampleTrace]] = {}
    for trace in traces:
        if len(trace.tokens.token_id):
            widths = np.shape(trace.tokens.base_topk_ids)[1], np.shape(trace.tokens.reasoning_topk_ids)[1]
            groups.setdefault(widths, []).append(trace)
    for group in groups.values():
        # In blocks that stay in the processor's cache: twice as fast as all at once.
        block_of = np.cumsum([len(trace.tokens.token_id) for trace in group]) // BLOCK
        for _, block in itertools.groupby(zip(block_of, group, strict=True), key=lambda pair: int(pair[0])):
            yield _Rows([trace for _, trace in block])


def _fits(rows: _Rows) -> BoolArray:
    """Whether each sample keeps to the bounds of the compact layout: (samples,)."""
    fits = np.ones(int(rows.lengths.sum()), dtype=np.bool_)
    for name in REALS:
        fits &= quantisation.reals_fit(rows.numbers(name, np.float64))
    for model in ("base", "reasoning"):
        ids = rows.numbers(f"{model}_topk_ids", np.int32)
        logprobs = rows.numbers(f"{model}_topk_logprobs", np.float32)
        fits &= (quantisation.logprobs_fit(logprobs) | (ids < 0)).all(axis=1)
        if model == "base":  # ranks count places in the base list, so padding must be at its end
            fits &= ~((ids[:, :-1] < 0) & (ids[:, 1:] >= 0)).any(axis=1)
        fits &= ids.shape[1] <= MOST_IDS
    asked = rows.numbers("base_token_id", np.int32) >= 0
    fits &= asked == rows.texts("base_token_text").is_valid().to_numpy(zero_copy_only=False)
    taken, drawn = rows.from_reasoning(), rows.numbers("reasoning_token_id", np.int32)
    fits &= ~taken | (drawn == rows.numbers("token_id", np.int32))
    return rows.each_sample(fits)


def _exact(rows: _Rows) -> dict[str, pa.Array]:
    columns = rows.shared() | {"base_token_text": rows.texts("base_token_text")}
    columns |= {name: _nullable(rows.numbers(name, np.float64)) for name in REALS}
    for model in ("base", "reasoning"):
        ids = rows.numbers(f"{model}_topk_ids", np.int32)
        present = ids >= 0
        logprobs = rows.numbers(f"{model}_topk_logprobs", np.float32)
        columns[f"{model}_topk_ids"] = _lists(ids, present, ~present.any(axis=1))
        columns[f"{model}_topk_logprobs"] = _lists(logprobs, present, ~present.any(axis=1))
    return columns


def _compact(rows: _Rows) -> dict[str, pa.Array]:
    columns = rows.shared()
    drawn = rows.texts("base_token_text")
    columns["base_token_text"] = pc.if_else(pc.equal(drawn, columns["token_text"]), pa.scalar(None, pa.string()), drawn)
    ids = rows.numbers("reasoning_token_id", np.int32)
    columns["reasoning_token_id"] = pa.array(ids, mask=(ids < 0) | rows.from_reasoning())
    numbers = {name: rows.numbers(name, np.float64) for name in REALS}
    copied = _score_is(rows, numbers)
    columns["score_is"] = _repeated([None if i < 0 else SCORED[i] for i in copied], rows.lengths)
    copied_rows = np.repeat(copied, rows.lengths)
    for name, values in numbers.items():
        left_out = copied_rows == SCORED.index(name) if name in SCORED else np.zeros(len(values), dtype=np.bool_)
        columns[name] = pa.array(values.astype(np.float32), mask=np.isnan(values) | left_out)
    base_ids, reasoning_ids = (rows.numbers(f"{model}_topk_ids", np.int32) for model in ("base", "reasoning"))
    for model, ids in (("base", base_ids), ("reasoning", reasoning_ids)):
        present = ids >= 0
        codes = quantisation.to_codes(rows.numbers(f"{model}_topk_logprobs", np.float32))
        columns[f"{model}_topk_codes"] = _lists(codes, present, ~present.any(axis=1))
    columns["base_topk_ids"] = _lists(base_ids, base_ids >= 0, ~(base_ids >= 0).any(axis=1))
    ranks, held = quantisation.to_ranks(reasoning_ids, base_ids)
    columns["reasoning_topk_ranks"] = _lists(ranks, reasoning_ids >= 0, ~(reasoning_ids >= 0).any(axis=1))
    others = (reasoning_ids >= 0) & ~held
    columns["reasoning_other_ids"] = _lists(reasoning_ids, others, ~others.any(axis=1))
    return columns


def _score_is(rows: _Rows, numbers: dict[str, Any]) -> NDArray[np.int64]:
    """For each sample the index in `SCORED` of the first metric that its scores equal bit for bit, -1 for none."""
    score = rows.numbers("score", np.float64)
    found = np.full(len(rows.traces), -1, dtype=np.int64)
    if np.isnan(score).all():
        return found
    for index, name in reversed(list(enumerate(SCORED))):
        same = (score == numbers[name]) | (np.isnan(score) & np.isnan(numbers[name]))
        found[rows.each_sample(same)] = index
    return found


def _repeated(values: list[Any], counts: NDArray[np.int64]) -> pa.Array:
    indices = pa.array(np.repeat(np.arange(len(values), dtype=np.int32), counts))
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string())).cast(pa.string())


def _nullable(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, from_pandas=True)


def _lists(values: NDArray[Any], present: BoolArray, absent: BoolArray) -> pa.Array:
    """(n, k) values as n lists of those that are present; a row that is absent is NULL."""
    counts = present.sum(axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    flat = values.ravel() if present.all() else values[present]
    return pa.ListArray.from_arrays(offsets, pa.array(flat), mask=pa.array(absent))
