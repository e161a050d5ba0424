"""Token rows of whole samples as Arrow tables, in either layout of the store.

The exact layout has the columns of `TokenColumns` as they are. The compact layout, the default, keeps what decided
(`score`, `local_mean`) exactly, numbers beside it in single precision, log-probabilities of lists as codes of one byte, and
nothing twice: the metric that the scores are, a base token's text equal to the emitted token's, the emitted tokens of the
reasoning model, and the ids that both lists hold are left out and put back by the view `tokens`. `rrti_sgl.db.quantisation`
states the bounds; a sample that does not keep to them goes into the exact layout, whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rrti_sgl.columns import Field, Kind
from rrti_sgl.db import quantisation
from rrti_sgl.db.tables import TOKEN_FIELDS
from rrti_sgl.errors import UsageError
from rrti_sgl.records import BoolArray, SampleTrace
from rrti_sgl.science.metrics import METRICS

Precision = Literal["compact", "exact"]
EXACT_TABLE, COMPACT_TABLE = "exact_tokens", "compact_tokens"
BLOCK = 8192
NUMBERS = tuple(field.name for field in TOKEN_FIELDS if field.kind == "number")  # single precision in the compact layout
MOST_IDS = 32_767  # in a list, so that ranks in two of them are 16-bit numbers


@dataclass(frozen=True)
class _Rows:
    """The tokens, one after the other, of samples that have some, lists of the same widths and scores of the same metric."""

    traces: Sequence[SampleTrace]
    score_metric: str | None

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
        import pyarrow.compute as pc

        taken: BoolArray = pc.equal(self.texts("source"), "reasoning").to_numpy(zero_copy_only=False)
        return taken

    def each_sample(self, rows: BoolArray) -> BoolArray:
        """Whether a condition holds for all rows of a sample: (rows,) -> (samples,)."""
        holds: BoolArray = np.logical_and.reduceat(rows, np.cumsum(self.lengths) - self.lengths)
        return holds

    def keys(self) -> dict[str, pa.Array]:
        lengths = self.lengths
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        return {
            "run_id": _repeated([trace.sample.run_id for trace in self.traces], lengths),
            "sample_id": _repeated([trace.sample.sample_id for trace in self.traces], lengths),
            "position": pa.array((np.arange(lengths.sum()) - starts).astype(np.int32)),
        }

    def column(self, field: Field) -> pa.Array:
        """One that is stored as it is: NULL where the record says that there is nothing."""
        match field.kind:
            case "text":
                return self.texts(field.name)
            case "number" | "decided":
                return pa.array(self.numbers(field.name, np.float64), from_pandas=True)
            case "id" | "mark":
                ids = self.numbers(field.name, np.int32)
                return pa.array(ids, mask=ids < 0)
            case "flag":
                return pa.array(self.numbers(field.name, np.bool_))
            case _:
                return pa.array(self.numbers(field.name, np.int32))

    def columns(self, *without: Kind) -> dict[str, pa.Array]:
        """Keys and every column that is stored as it is, in order, but for some kinds and for lists."""
        kept = (field for field in TOKEN_FIELDS if field.kind not in ("ids", "logprobs", *without))
        return self.keys() | {field.name: self.column(field) for field in kept}


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
    for rows in _alike(traces):
        compact = _fits(rows) if precision == "compact" else np.zeros(len(rows.traces), dtype=bool)
        for name, build, chosen in ((COMPACT_TABLE, _compact, compact), (EXACT_TABLE, _exact, ~compact)):
            if chosen.any():
                part = rows if chosen.all() else replace(rows, traces=list(itertools.compress(rows.traces, chosen)))
                tables.setdefault(name, []).append(pa.table(build(part)))
    return {name: pa.concat_tables(parts) for name, parts in tables.items()}


def _alike(traces: Sequence[SampleTrace]) -> Iterator[_Rows]:
    groups: dict[tuple[int, int, str | None], list[SampleTrace]] = {}
    for trace in traces:
        tokens = trace.tokens
        if len(tokens.token_id):
            widths = np.shape(tokens.base_topk_ids)[1], np.shape(tokens.reasoning_topk_ids)[1]
            groups.setdefault((*widths, trace.score_metric), []).append(trace)
    for (*_, metric), group in groups.items():
        # In blocks that stay in the processor's cache: twice as fast as all at once.
        block_of = np.cumsum([len(trace.tokens.token_id) for trace in group]) // BLOCK
        for _, block in itertools.groupby(zip(block_of, group, strict=True), key=lambda pair: int(pair[0])):
            yield _Rows([trace for _, trace in block], metric)


def _fits(rows: _Rows) -> BoolArray:
    """Whether each sample keeps to the bounds of the compact layout: (samples,)."""
    fits = np.ones(int(rows.lengths.sum()), dtype=np.bool_)
    for name in NUMBERS:
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
    columns = rows.columns()
    for model in ("base", "reasoning"):
        ids = rows.numbers(f"{model}_topk_ids", np.int32)
        present = ids >= 0
        logprobs = rows.numbers(f"{model}_topk_logprobs", np.float32)
        columns[f"{model}_topk_ids"] = _lists(ids, present, ~present.any(axis=1))
        columns[f"{model}_topk_logprobs"] = _lists(logprobs, present, ~present.any(axis=1))
    return columns


def _compact(rows: _Rows) -> dict[str, pa.Array]:
    import pyarrow.compute as pc

    columns = rows.columns("number")
    drawn = columns["base_token_text"]
    columns["base_token_text"] = pc.if_else(pc.equal(drawn, columns["token_text"]), pa.scalar(None, pa.string()), drawn)
    ids = rows.numbers("reasoning_token_id", np.int32)
    columns["reasoning_token_id"] = pa.array(ids, mask=(ids < 0) | rows.from_reasoning())
    copied = _score_is_metric(rows)
    columns["score_is"] = _repeated([rows.score_metric if is_copy else None for is_copy in copied], rows.lengths)
    for name in NUMBERS:
        values = rows.numbers(name, np.float64)
        absent = np.isnan(values)
        if name == rows.score_metric:
            absent |= np.repeat(copied, rows.lengths)
        columns[name] = pa.array(values.astype(np.float32), mask=absent)
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


def _score_is_metric(rows: _Rows) -> BoolArray:
    """Whether the scores of each sample are, bit for bit, the column of the metric that they are said to be: (samples,)."""
    if rows.score_metric is None or rows.score_metric not in METRICS:
        return np.zeros(len(rows.traces), dtype=np.bool_)
    score, metric = (rows.numbers(name, np.float64) for name in ("score", rows.score_metric))
    return rows.each_sample((score == metric) | (np.isnan(score) & np.isnan(metric)))


def _repeated(values: list[Any], counts: NDArray[np.int64]) -> pa.Array:
    indices = pa.array(np.repeat(np.arange(len(values), dtype=np.int32), counts))
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string())).cast(pa.string())


def _lists(values: NDArray[Any], present: BoolArray, absent: BoolArray) -> pa.Array:
    """(n, k) values as n lists of those that are present; a row that is absent is NULL."""
    counts = present.sum(axis=1)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
    flat = values.ravel() if present.all() else values[present]
    return pa.ListArray.from_arrays(offsets, pa.array(flat), mask=pa.array(absent))
