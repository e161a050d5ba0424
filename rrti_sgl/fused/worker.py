"""The rounds of a fused server: SGLang's scheduler calls `GuidedWorker` for every batch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sglang.srt.layers.logits_processor import LogitsProcessorOutput
from sglang.srt.managers.scheduler import GenerationBatchResult
from sglang.srt.managers.tp_worker import TpModelWorker
from sglang.srt.runtime_context import get_device, get_spec
from sglang.srt.speculative.base_spec_worker import BaseSpecWorker

from rrti_sgl.fused import logprobs, places
from rrti_sgl.fused.acceptance import Guidance, Kept
from rrti_sgl.fused.admission import Door, base_prompt, guidance_of, open_door
from rrti_sgl.fused.base_side import BaseSide
from rrti_sgl.fused.drawing import draw
from rrti_sgl.fused.forwards import Carried, Draft, draft, forward_batch, read, verify
from rrti_sgl.fused.pacing import Changes, Pace, clock_of
from rrti_sgl.fused.scoring import measure
from rrti_sgl.fused.tracing import Round, tell
from rrti_sgl.records import FloatArray
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.gates import Steps
from rrti_sgl.science.metrics import METRICS

logger = logging.getLogger(__name__)

_NAMES = tuple(METRICS)
_COLUMNS: Mapping[str, int] = {name: column for column, name in enumerate(_NAMES)}


class GuidedWorker(BaseSpecWorker):  # type: ignore[misc]
    """Drafts with the base model, verifies with the reasoning model, and lets each request's gate keep what it keeps.

    A fault of one request's is an error on that request; one of a whole round ends the requests of the round, with their
    caches as they were. The server goes on.
    """

    def __init__(self, server_args: Any, gpu_id: int, nccl_port: int, target_worker: Any, **more: Any) -> None:
        super().__init__()
        self.server_args = server_args
        self._target_worker = target_worker
        self._draft_tokens: int = get_spec().speculative_num_draft_tokens
        self._device: str = get_device().device
        reasoning = target_worker.model_runner.model_config
        self._draft_worker = TpModelWorker(
            server_args=server_args,
            gpu_id=gpu_id,
            nccl_port=nccl_port,
            is_draft_worker=True,
            context_length=reasoning.context_len,
            **more,  # 0.5.17 hands its place among parallel workers on
        )
        self._pace = Pace(clock_of(self._device))
        self._base = self._draft_worker.model_runner
        self._draft_worker.draft_runners = [self._base]
        self._draft_worker.draft_runner = self._base  # 0.5.17 asks for the one
        self._vocab_size: int = reasoning.vocab_size
        if self._base.model_config.vocab_size != self._vocab_size:
            raise ValueError(
                f"the base model has {self._base.model_config.vocab_size} output tokens, the reasoning model "
                f"{self._vocab_size}: one server needs one vocabulary; serve them as two"
            )
        if (reason := places.unfit(self._base.model_config, reasoning)) is not None:
            raise ValueError(f"{reason}: one server cannot hold both models; serve them as two")

    # -- what SGLang calls ------------------------------------------------------------------------------------------

    def alloc_memory_pool(
        self, memory_pool_config: Any = None, req_to_token_pool: Any = None, token_to_kv_pool_allocator: Any = None
    ) -> None:
        """The base model's sequences get a table, slots and a tree of their own."""
        if token_to_kv_pool_allocator.page_size != 1:
            raise ValueError(f"page size {token_to_kv_pool_allocator.page_size}: a fused server needs --page-size 1")
        table = places.own_table(req_to_token_pool, self._device)
        self._draft_worker.alloc_memory_pool(
            memory_pool_config=memory_pool_config,
            req_to_token_pool=table,
            token_to_kv_pool_allocator=token_to_kv_pool_allocator,
        )
        self._side = BaseSide(table, self._base.token_to_kv_pool.size, self._device)
        longest = min(self._base.model_config.context_len, table.req_to_token.shape[1])
        open_door(Door(self._side, self._draft_tokens, self._vocab_size, longest))
        self.req_to_token_pool, self.token_to_kv_pool_allocator = req_to_token_pool, token_to_kv_pool_allocator

    def clear_cache_pool(self) -> None:
        """Forget cached prefixes; SGLang calls it with no request running."""
        self._side.sweep()
        logger.info(
            "the base model's cache: %d of %d slots were free or cached", self._side.available, self._side.slots.size
        )
        self._side.clear()

    def note_request_finished(self, *, rid: str, natural_stop: bool) -> None:
        """Free the base model's rows of the requests that are over."""
        self._side.sweep()

    def forward_batch_generation(self, batch: Any, on_publish: Callable[[Any], None] | None = None, **kwargs: Any) -> Any:
        """One round: a prefill, or a draft with its verification."""
        self._side.sweep()
        result = self._decode(batch) if batch.forward_mode.is_decode() else self._extend(batch)
        if on_publish is not None:
            on_publish(result.new_seq_lens)
        return result

    # -- prompts ----------------------------------------------------------------------------------------------------

    def _extend(self, batch: Any) -> Any:
        """Both models read their prompts, or a piece; the first token goes through the gate as every other."""
        batch.spec_info = None
        runner = self.target_worker.model_runner
        forward = forward_batch(batch, runner)
        result = self.target_worker.forward_batch_generation(batch=None, forward_batch=forward, is_verify=True)
        output = result.logits_output
        logits = output.next_token_logits.clone()  # SGLang's sampler leaves probabilities in their place
        tokens = runner.sample(output, forward)
        try:
            active, drafted = self._read_prompts(batch)
            if drafted is not None:
                at = torch.tensor(active, device=tokens.device)
                kept, round_ = self._gate(batch, active, drafted, logits[at])
                tokens = tokens.clone()
                for place, index in enumerate(active):
                    if (keeps := kept[place]) is not None:
                        tokens[index] = int(_emitted(keeps, round_, place)[0])
                        logprobs.fill_first(batch, index, keeps, round_, place, int(tokens[index]), output)
        except Exception as error:
            self._fail(batch, range(len(batch.reqs)), error)
        return GenerationBatchResult(
            logits_output=output,
            next_token_ids=tokens,
            can_run_cuda_graph=result.can_run_cuda_graph,
            accept_lens=torch.ones(len(batch.reqs), dtype=torch.int32, device=tokens.device),
            new_seq_lens=batch.seq_lens,
            next_draft_input=Carried(tokens.long(), batch.seq_lens.clone(), self._draft_tokens),
            speculative_num_draft_tokens=self._draft_tokens,
        )

    def _read_prompts(self, batch: Any) -> tuple[list[int], Draft | None]:
        """The base model reads the prompts of the sequences whose prompts the reasoning model has read to the end.

        Rows are given at the first piece of a prompt, so that its end finds room.
        """
        rows = batch.req_pool_indices.tolist()
        active, unread, cached = [], [], []
        for index, request in enumerate(batch.reqs):
            guidance = guidance_of(request)
            if request.to_finish is not None or guidance is None:
                continue
            prompt = base_prompt(request)
            try:
                if not self._side.is_of(rows[index], request):
                    guidance.base_prompt_tokens = len(prompt)
                    guidance.base_cached_tokens = self._side.admit(rows[index], request, prompt)
            except MemoryError as error:
                places.abort(request, f"{error}; try again when fewer requests run", 503)
                continue
            if places.reads_its_end(request):
                ids, before = self._side.unread(rows[index])
                active.append(index)
                unread.append(ids)
                cached.append(before)
        if not active:
            return active, None
        picked = [rows[index] for index in active]
        logits = read(batch, self._base, active, picked, unread, cached, self._side.table)
        for row, ids in zip(picked, unread, strict=True):
            self._side.extend(row, len(ids))
        sequence = torch.tensor(active, device=logits.device)
        tokens, given = draw(logits, batch.sampling_info, sequence), _given(batch, 1, self._device)
        if given is not None:
            tokens = torch.where(given[sequence, 0] < 0, tokens, given[sequence, 0])
        return active, Draft(sequence, tokens, logits, [1] * len(active))

    # -- rounds -----------------------------------------------------------------------------------------------------

    def _decode(self, batch: Any) -> Any:
        """A draft, its verification, and what the gates keep of it."""
        n, size = self._draft_tokens, len(batch.reqs)
        out = torch.zeros((size, n), dtype=torch.long, device=self._device)
        accepted = torch.zeros(size, dtype=torch.int32, device=self._device)
        output: Any = LogitsProcessorOutput(next_token_logits=None)
        rows = batch.req_pool_indices.tolist()
        active = self._reserve(batch, rows)
        kept: list[Kept | None] = []
        try:
            if active:
                lengths = self._side.lengths(rows[index] for index in active)
                limits = [self._limit(batch.reqs[index]) for index in active]
                stops, doubts = _stops(batch, self._device), _doubts(batch, self._device)
                given = _given(batch, max(limits), self._device)
                self._pace.begin([self._changes(batch.reqs[index]) for index in active])
                drafted = draft(
                    batch, self._base, self._side.table, active, lengths, limits, stops, doubts, self._pace, given
                )
                logits, output = verify(batch, self.target_worker, drafted, active, n)
                kept, round_ = self._gate(batch, active, drafted, logits)
                self._learn(batch, active, drafted, kept, round_)
                for place, index in enumerate(active):
                    if (keeps := kept[place]) is not None:
                        out[index, : keeps.n] = torch.from_numpy(_emitted(keeps, round_, place))
                        accepted[index] = keeps.n
                        self._side.extend(rows[index], keeps.n)
                if batch.return_logprob:
                    logprobs.fill(batch, active, kept, round_, out, output)
        except Exception as error:
            self._fail(batch, range(size), error)
            accepted.zero_()
        if batch.return_logprob and getattr(output, "next_token_logprobs", None) is None:
            output.next_token_logprobs = torch.zeros((size, n))
        new_lengths = batch.seq_lens + accepted.to(batch.seq_lens.dtype)
        last = out.gather(1, (accepted.long() - 1).clamp(min=0)[:, None])[:, 0]
        result = GenerationBatchResult(
            logits_output=output,
            next_token_ids=out.flatten(),
            accept_lens=accepted,
            new_seq_lens=new_lengths,
            next_draft_input=Carried(torch.where(accepted > 0, last, batch.spec_info.bonus_tokens), new_lengths.clone(), n),
            speculative_num_draft_tokens=n,
        )
        if not bool((accepted > 0).all()):
            result.num_non_draft_tokens_per_req = 0  # SGLang counts one in every round, and cannot count below none
        return result

    def _reserve(self, batch: Any, rows: Sequence[int]) -> list[int]:
        """The sequences that take part in the round; one without room ends with an error."""
        active = []
        for index, request in enumerate(batch.reqs):
            try:
                if request.to_finish is None:
                    self._side.reserve(rows[index], self._draft_tokens)
                    active.append(index)
            except MemoryError as error:
                places.abort(request, f"{error}; try again when fewer requests run", 503)
        return active

    def _limit(self, request: Any) -> int:
        """Most tokens that are worth drafting for a request."""
        guidance = guidance_of(request)
        assert guidance is not None
        room = request.sampling_params.max_new_tokens - len(request.output_ids)
        most: int = min(self._draft_tokens, guidance.draft_limit or self._draft_tokens, room)
        return max(1, most)

    # -- gates ------------------------------------------------------------------------------------------------------

    def _gate(
        self, batch: Any, active: Sequence[int], drafted: Draft, logits: torch.Tensor
    ) -> tuple[list[Kept | None], Round]:
        """What each sequence's gate keeps; None for one whose gate failed, which then ends with the error."""
        guides = [guidance_of(batch.reqs[index]) for index in active]
        base = torch.log_softmax(drafted.logits.float(), -1)
        reasoning = torch.log_softmax(logits.float(), -1)
        drawn = draw(logits, batch.sampling_info, drafted.sequence)
        traced = any(guide.steering.trace for guide in guides if guide is not None)
        names = _NAMES if traced else sorted({name for guide in guides if guide is not None for name in guide.metrics})
        metrics = measure(base, reasoning, names).cpu().numpy().astype(np.float64) if names else np.empty((len(base), 0))
        begins = np.concatenate([[0], np.cumsum(drafted.lengths)[:-1]]).tolist()
        round_ = Round(
            base, reasoning, metrics, np.full(len(base), np.nan), drafted.tokens.cpu().numpy(), drawn.cpu().numpy(),
            begins, drafted.lengths,
        )  # fmt: skip
        kept: list[Kept | None] = []
        for place, (index, guide) in enumerate(zip(active, guides, strict=True)):
            request = batch.reqs[index]
            assert guide is not None
            rows = slice(begins[place], begins[place] + drafted.lengths[place])
            try:
                position = guide.steering.position + len(request.output_ids)
                if not guide.relay_left:
                    round_.scores[rows] = self._signal(request, guide, round_, rows, position, names)
                kept.append(guide.decide(position, round_.scores[rows], round_.drafted[rows], round_.drawn[rows]))
            except Exception as error:  # a gate of one's own may do anything
                self._fail(batch, [index], error)
                kept.append(None)
        if traced:
            tell(
                [
                    (batch.reqs[index], guide, keeps, place)
                    for place, (index, guide, keeps) in enumerate(zip(active, guides, kept, strict=True))
                    if guide is not None and keeps is not None and guide.steering.trace
                ],
                round_,
            )
        return kept, round_

    def _learn(self, batch: Any, active: Sequence[int], drafted: Draft, kept: Sequence[Kept | None], round_: Round) -> None:
        """Note what the round kept, and where its gates changed a token."""
        assert drafted.entropies is not None
        entropies = drafted.entropies.numpy().astype(np.float64)
        asked = []
        for index, begin, keeps in zip(active, round_.begins, kept, strict=True):
            guide = guidance_of(batch.reqs[index])
            n = 0 if keeps is None or keeps.relayed or guide is None or guide.gate.foregone else keeps.n
            changed = np.zeros(n, np.bool_)
            changed[n - 1 :] = keeps is not None and keeps.took
            asked.append((entropies[begin : begin + n], changed))
        self._pace.end(len(round_.drafted), asked, sum(keeps.n for keeps in kept if keeps is not None))

    def _changes(self, request: Any) -> Changes:
        """What is known of a request's gate."""
        guide = guidance_of(request)
        assert guide is not None
        if guide.changes is None:
            guide.changes = self._pace.changes.of(guide.gate)
        return guide.changes

    def _signal(
        self, request: Any, guide: Guidance, round_: Round, rows: slice, position: int, names: Sequence[str]
    ) -> FloatArray:
        """(n,) scores of a request's drafted positions."""
        if guide.metrics:
            columns = {name: round_.metrics[rows, list(names).index(name)] for name in guide.metrics}
            return guide.gate.combined(columns)
        n = rows.stop - rows.start
        k = guide.steering.k or self._vocab_size
        asked = guide.gate.needs_base or guide.steering.k or ":" in guide.steering.gate
        base = _distributions(round_.base[rows], k) if asked else Distributions.empty(k, self._vocab_size)
        reasoning = _distributions(round_.reasoning[rows], k) if asked else None
        given = request.origin_input_ids[len(request.origin_input_ids) - guide.steering.position :]
        return guide.gate.signal(
            Steps(
                np.arange(position, position + n, dtype=np.int32),
                base,
                reasoning,
                guide.steering.seed,
                (*given, *request.output_ids),
                tuple(round_.drafted[rows].tolist()),
            )
        )

    # -- faults -----------------------------------------------------------------------------------------------------

    def _fail(self, batch: Any, indices: Sequence[int], error: Exception) -> None:
        """End requests with an error."""
        logger.error("guided decoding failed", exc_info=error)
        for index in indices:
            request = batch.reqs[index]
            if request.to_finish is None:
                places.abort(request, f"guided decoding failed: {type(error).__name__}: {error}", 500)


def _emitted(kept: Kept, round_: Round, place: int) -> Any:
    """(kept,) tokens."""
    begin = round_.begins[place]
    tokens = round_.drafted[begin : begin + kept.n].copy()
    if kept.took:
        tokens[-1] = round_.drawn[begin + kept.n - 1]
    return tokens


def _distributions(logprobs: torch.Tensor, k: int) -> Distributions:
    values, ids = logprobs.topk(k, -1)
    return Distributions(
        ids=ids.cpu().numpy().astype(np.int32), logprobs=values.cpu().numpy(), vocab_size=logprobs.shape[-1]
    )


def _stops(batch: Any, device: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Which tokens end which sequence of the batch."""
    sets = [
        set() if request.sampling_params.ignore_eos
        else set(request.sampling_params.stop_token_ids or ()) | set(request.eos_token_ids or ())
        for request in batch.reqs
    ]  # fmt: skip
    width = max(1, *map(len, sets))
    table = torch.tensor([[*found, *[-1] * (width - len(found))] for found in sets], device=device)
    return lambda sequences, tokens: (table[sequences] == tokens[:, None]).any(-1)


def _given(batch: Any, n: int, device: str) -> torch.Tensor | None:
    """(batch, n) the next tokens of solutions that are given, -1 where none is; None where no solution is given."""
    guides = [guidance_of(request) for request in batch.reqs]
    if not any(guide is not None and guide.steering.given for guide in guides):
        return None
    rows = []
    for request, guide in zip(batch.reqs, guides, strict=True):
        start = len(request.output_ids)
        ids = list(guide.steering.given[start : start + n]) if guide is not None else []
        rows.append(ids + [-1] * (n - len(ids)))
    return torch.tensor(rows, device=device)


def _doubts(batch: Any, device: str) -> torch.Tensor:
    """(batch,) entropy above which each sequence's drafts end; NaN where that is left to the server."""
    limits = []
    for request in batch.reqs:
        guide = guidance_of(request)
        limit = guide.steering.doubt if guide is not None else None
        left = float("inf") if guide is None or guide.gate.foregone else float("nan")
        limits.append(left if limit is None else limit)
    return torch.tensor(limits, device=device)
