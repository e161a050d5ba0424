"""What is hooked in an SGLang server, and the guard that keeps every fault in here from reaching it.

A forward pass goes through four places. `forward_batch_generation` knows the requests; `_get_logits` sees the logits of
prompt positions and of the token after them; `sample` sees those of every later token, on CUDA graphs too, before they are
changed by sampling options; `_maybe_collect_customized_info` runs when a request's token is accepted and its results are
on the host. A fifth hook marks the answer as one for the whole request, or else it would be cut to the output's length.
"""

from __future__ import annotations

import logging
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rrti_sgl.server_plugin.measuring import Collected, measure, to_host
from rrti_sgl.server_plugin.protocol import KEY, Question

logger = logging.getLogger(__name__)

_ATTRIBUTE = "_rrti_exact"  # on SGLang's request object
_SRT = "sglang.srt."


@dataclass
class _Pass:
    """The forward pass under way: what was asked by the request of each sequence, and how many logit rows were seen."""

    asked: list[Collected | None]
    prefix_lens: list[int] | None  # cached tokens of each sequence; None while decoding
    rows_seen: int = 0


_current: _Pass | None = None  # a scheduler runs one forward pass at a time


def _hooks() -> dict[str, tuple[Callable[..., Any], str]]:
    """Target -> our function and the name of its `HookType`."""
    results = _SRT + "managers.scheduler_components."
    return {
        _SRT + "managers.tp_worker.TpModelWorker.forward_batch_generation": (around_forward, "AROUND"),
        _SRT + "layers.logits_processor.LogitsProcessor._get_logits": (after_get_logits, "AFTER"),
        _SRT + "model_executor.model_runner.ModelRunner.sample": (around_sample, "AROUND"),
        results + "batch_result_processor.SchedulerBatchResultProcessor._maybe_collect_customized_info": (
            after_collect,
            "AFTER",
        ),
        results + "output_streamer.SchedulerOutputStreamer.is_request_level_customized_info_key": (
            after_is_request_level,
            "AFTER",
        ),
    }


def missing_targets() -> list[str]:
    """What this SGLang does not have of the functions that are to be hooked."""
    missing = []
    for target in _hooks():
        try:
            pkgutil.resolve_name(target)
        except (ImportError, AttributeError):
            missing.append(target)
    return missing


def register_all() -> None:
    """Register every hook; SGLang applies them once all plugins are loaded."""
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    for target, (hook, kind) in _hooks().items():
        HookRegistry.register(target, hook, HookType[kind])


def _guarded(what: str, use: Callable[[], None], asked: list[Collected | None] | None = None) -> None:
    """Run our own code; a fault is logged and noted in the answers of the requests that asked."""
    try:
        use()
    except Exception as error:  # whatever it is, the server must live on
        logger.warning("exact scores: %s failed, falling back to top-k", what, exc_info=True)
        for collected in asked or ():
            if collected is not None:
                collected.error = f"{what}: {type(error).__name__}: {error}"


def _asked_by(request: Any) -> Collected | None:
    """The question of a request, read once; one that cannot be read is a `Collected` with an error."""
    params = request.sampling_params.custom_params
    if not isinstance(params, dict) or KEY not in params:
        return None
    collected = getattr(request, _ATTRIBUTE, None)
    if collected is None:
        try:
            collected = Collected(Question.from_json(params[KEY]))
        except Exception as error:  # it came over the network
            collected = Collected(Question.nothing())
            collected.error = f"question: {type(error).__name__}: {error}"
        setattr(request, _ATTRIBUTE, collected)
    assert isinstance(collected, Collected)
    return collected


def around_forward(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Around `TpModelWorker.forward_batch_generation(self, batch, ...)`: note what the requests of this pass ask."""
    global _current
    _current = None
    _guarded("reading the requests", lambda: _begin(kwargs["batch"] if "batch" in kwargs else args[1]))
    try:
        return original(*args, **kwargs)
    finally:
        _current = None


def _begin(batch: Any) -> None:
    global _current
    if batch is None:
        return
    asked = [_asked_by(request) for request in batch.reqs]
    if any(collected is not None and collected.error is None for collected in asked):
        decoding = batch.forward_mode.is_decode_or_idle()
        _current = _Pass(asked, None if decoding else [int(length) for length in batch.prefix_lens])


def after_get_logits(logits: Any, *args: Any, **kwargs: Any) -> None:
    """After `LogitsProcessor._get_logits(self, hidden_states, lm_head, logits_metadata, ...)`, which a prefill may call in
    several chunks: measure their rows.
    """
    current = _current
    if current is not None and current.prefix_lens is not None:
        _guarded("measuring prompt positions", lambda: _measure_prefill(current, logits, args[3]), current.asked)


def _measure_prefill(current: _Pass, logits: Any, metadata: Any) -> None:
    """Rows are the sequences one after the other, each from its first wanted position to the end of what was extended."""
    assert current.prefix_lens is not None
    chunk_from, chunk_to = current.rows_seen, current.rows_seen + len(logits)
    current.rows_seen = chunk_to
    row = 0
    for index, (asked, prefix) in enumerate(zip(current.asked, current.prefix_lens, strict=True)):
        extended = int(metadata.extend_seq_lens_cpu[index])
        start = extended - 1
        if metadata.extend_return_logprob:  # else the last position alone
            start = min(start, int(metadata.extend_logprob_start_lens_cpu[index]))
        rows_from, row = row, row + extended - start
        if asked is None or asked.error is not None:
            continue
        low, high = max(rows_from, chunk_from), min(row, chunk_to)
        if low < high:  # the hidden state at p belongs to the token after it, p + 1
            first, rows = prefix + start + (low - rows_from) + 1, logits[low - chunk_from : high - chunk_from]
            _guarded("measuring prompt positions", partial(asked.measure_prompt, first, rows), [asked])


def around_sample(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Around `ModelRunner.sample(self, logits_output, forward_batch)`: first measure the sequences that are decoding."""
    current = _current
    if current is not None and current.prefix_lens is None:
        _guarded("measuring output positions", lambda: _measure_decode(current, args[1], args[2]), current.asked)
    return original(*args, **kwargs)


def _measure_decode(current: _Pass, logits_output: Any, forward_batch: Any) -> None:
    asking = [index for index, asked in enumerate(current.asked) if asked is not None and asked.error is None]
    logits = logits_output.next_token_logits[asking]
    values = to_host(measure(logits, logits.new_zeros((len(asking), 0), dtype=torch.int64)))
    lengths = to_host(forward_batch.seq_lens)  # counts the newest token: the index of the one to come
    for row, index in enumerate(asking):
        asked = current.asked[index]
        assert asked is not None
        asked.add(lengths[index : index + 1], values[row : row + 1])


def after_collect(result: Any, *args: Any, **kwargs: Any) -> None:
    """After `_maybe_collect_customized_info(self, i, req, logits_output)`: the answer of a finished request."""
    _guarded("answering", lambda: _answer(args[2]))


def _answer(request: Any) -> None:
    collected = getattr(request, _ATTRIBUTE, None)
    if collected is None or not request.finished():
        return
    try:
        answer = {"error": collected.error} if collected.error else collected.answer().to_json()
    except Exception as error:  # told to the one who asked
        answer = {"error": f"{type(error).__name__}: {error}"}
    if "error" in answer:
        logger.warning("exact scores: none for request %s: %s", request.rid, answer["error"])
    request.customized_info = (request.customized_info or {}) | {KEY: [answer]}
    delattr(request, _ATTRIBUTE)


def after_is_request_level(result: Any, *args: Any, **kwargs: Any) -> bool | None:
    """After `is_request_level_customized_info_key(self, key)`: ours is; it is sent once and whole."""
    return True if KEY in (*args, *kwargs.values()) else None
