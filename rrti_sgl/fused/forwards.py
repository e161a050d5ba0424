"""Forward passes of the two models over a batch of SGLang's: reading prompts, drafting, verifying."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sglang.srt.model_executor.forward_batch_info import CaptureHiddenMode, ForwardBatch, ForwardMode
from sglang.srt.speculative.spec_info import SpecInput, SpecInputType

from rrti_sgl.fused.chains import fill
from rrti_sgl.fused.drawing import draw
from rrti_sgl.fused.pacing import Pace
from rrti_sgl.fused.scoring import entropy


class Carried(SpecInput):  # type: ignore[misc]
    """What sequences carry from round to round: each one's last token, which has no keys and values yet, (n,) int64."""

    def __init__(self, last_tokens: torch.Tensor, seq_lens: torch.Tensor, draft_tokens: int) -> None:
        super().__init__(SpecInputType.EAGLE_DRAFT)  # the enumeration is closed; any kind of draft will do
        self.bonus_tokens = last_tokens  # SGLang's name for it
        self.new_seq_lens = seq_lens
        self.num_tokens_per_req = self.num_tokens_for_logprob_per_req = draft_tokens
        self.future_indices = None
        self.capture_hidden_mode = CaptureHiddenMode.NULL

    def filter_batch(self, new_indices: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """Keep some of the sequences."""
        self.bonus_tokens = self.bonus_tokens[new_indices]
        self.new_seq_lens = self.new_seq_lens[new_indices]

    def merge_batch(self, other: Carried) -> None:
        """Take those of another batch."""
        self.bonus_tokens = torch.cat([self.bonus_tokens, other.bonus_tokens])
        self.new_seq_lens = torch.cat([self.new_seq_lens, other.new_seq_lens])


class _Verified(SpecInput):  # type: ignore[misc]
    def __init__(self, positions: torch.Tensor, draft_tokens: int) -> None:
        super().__init__(SpecInputType.NGRAM_VERIFY)
        self.positions = positions
        self.draft_token_num = self.num_tokens_per_req = self.num_tokens_for_logprob_per_req = draft_tokens
        self.capture_hidden_mode = CaptureHiddenMode.NULL
        self.custom_mask = None  # a chain: causal


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """Drafted tokens of some sequences, sequence after sequence: N rows in all.

    Args:
        sequence: (N,) index of the sequence in the batch.
        tokens: (N,) the base model's draws.
        logits: (N, V) that they were drawn from.
        lengths: tokens of each of the sequences, in the order of the rows.
        entropies: (N,) of the base model, in nats, on the host; None where nobody asked.
    """

    sequence: torch.Tensor
    tokens: torch.Tensor
    logits: torch.Tensor
    lengths: list[int]
    entropies: torch.Tensor | None = None


def forward_batch(batch: Any, runner: Any) -> Any:
    """What a model's forward pass is made of."""
    return ForwardBatch.init_new(
        batch, runner, capture_hidden_mode=CaptureHiddenMode.NULL, return_hidden_states_before_norm=False
    )


def read(
    batch: Any, runner: Any, picked: Sequence[int], rows: Sequence[int], ids: Sequence[Sequence[int]], cached: Sequence[int],
    table: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """The base model reads what its cache does not hold of some sequences.

    Args:
        batch: SGLang's, in an extend pass.
        runner: of the base model.
        picked: m indices of sequences in the batch.
        rows: their m rows of the table.
        ids: of each, the tokens to be read.
        cached: of each, the tokens before them, whose keys and values are there.
        table: slots of every sequence's tokens.

    Returns:
        (m, V) logits of the token after each sequence.
    """
    device = table.device
    ends = [before + len(tokens) for before, tokens in zip(cached, ids, strict=True)]
    own = copy.copy(batch)
    own.spec_info = None
    own.reqs = [batch.reqs[index] for index in picked]
    own.input_ids = torch.tensor([token for tokens in ids for token in tokens], dtype=torch.long, device=device)
    slots = [table[row, before:end] for row, before, end in zip(rows, cached, ends, strict=True)]
    own.out_cache_loc = torch.cat(slots).long()
    own.req_pool_indices = torch.tensor(rows, dtype=batch.req_pool_indices.dtype, device=device)
    own.seq_lens = own.orig_seq_lens = torch.tensor(ends, device=device)
    own.seq_lens_cpu, own.seq_lens_sum = own.seq_lens.cpu(), sum(ends)
    own.prefix_lens, own.extend_lens = list(cached), [len(tokens) for tokens in ids]
    own.extend_num_tokens = sum(own.extend_lens)
    own.return_logprob, own.extend_logprob_start_lens = False, None
    own.top_logprobs_nums = own.token_ids_logprobs = None
    own.sampling_info = None
    forward = forward_batch(own, runner)
    forward.return_logprob = False
    logits: torch.Tensor = runner.forward(forward).logits_output.next_token_logits
    return logits


def draft(
    batch: Any,
    runner: Any,
    table: torch.Tensor,
    active: Sequence[int],
    base_lengths: Sequence[int],
    limits: Sequence[int],
    stops: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    doubts: torch.Tensor,
    pace: Pace,
    given: torch.Tensor | None = None,
) -> Draft:
    """Decode steps of the base model, each sequence until its limit, its end token, its doubt, or where it pays no more.

    Args:
        batch: SGLang's, in a decode pass; its `spec_info` is a `Carried`.
        runner: of the base model.
        table: slots of every sequence's tokens.
        active: m indices of sequences in the batch.
        base_lengths: their tokens with keys and values in the base model.
        limits: of each, most tokens, at least one.
        stops: says of (m,) sequences and tokens which of them end the sequence, (m,) bool.
        doubts: (batch,) entropy above which a draft ends; NaN: where one more token does not pay.
        pace: knows what pays; its round has begun.
        given: (batch, steps) tokens that are drafted whatever is drawn, -1 where the draw counts; None: it does everywhere.
    """
    device = table.device
    sequences = torch.tensor(active, device=device)
    lengths, most = torch.tensor(base_lengths, device=device), torch.tensor(limits, device=device)
    token = batch.spec_info.bonus_tokens[sequences]
    own = copy.copy(batch)
    own.forward_mode, own.spec_info, own.return_logprob = ForwardMode.DECODE, None, False
    own.input_ids, own.out_cache_loc = token, torch.zeros_like(token)  # each step names its own slots
    forward = forward_batch(own, runner)
    on_host = torch.tensor(base_lengths)
    places, by_pace = np.arange(len(active), dtype=np.int32), doubts[sequences].isnan().cpu().numpy()
    pace.stepping()
    steps: list[tuple[torch.Tensor, ...]] = []
    for step in range(max(limits)):
        rows = batch.req_pool_indices[sequences]
        positions = lengths + step
        forward.batch_size = sequences.numel()
        forward.input_ids, forward.out_cache_loc = token, table[rows.long(), positions].long()
        forward.req_pool_indices, forward.positions = rows, positions
        forward.seq_lens, forward.seq_lens_cpu = positions + 1, on_host + step + 1
        forward.seq_lens_sum = int(forward.seq_lens_cpu.sum())
        logits = runner.forward(forward).logits_output.next_token_logits
        token = draw(logits, batch.sampling_info, sequences)
        if given is not None:
            token = torch.where(given[sequences, step] < 0, token, given[sequences, step])
        entropies = entropy(logits)
        steps.append((sequences, token, logits, entropies))
        ends = (most <= step + 1) | stops(sequences, token) | (entropies > doubts[sequences])
        # The one wait for the device in a step.
        nats, ended = torch.stack([entropies, ends.float()]).cpu().numpy().astype(np.float64)
        may = ended == 0
        paced = pace.going_on(places, nats, may)
        left = np.where(by_pace[places], paced, may)
        if not left.any():
            break
        if not left.all():
            on = torch.from_numpy(left)
            places, on_host, on = places[left], on_host[on], on.to(device)
            sequences, lengths, most, token = (values[on] for values in (sequences, lengths, most, token))
    return _by_sequence(steps, active)


def _by_sequence(steps: Sequence[tuple[torch.Tensor, ...]], active: Sequence[int]) -> Draft:
    """Rows step after step -> sequence after sequence."""
    sequence, tokens, logits, entropies = (torch.cat(parts) for parts in zip(*steps, strict=True))
    order = torch.argsort(sequence, stable=True)  # `active` ascends, and steps are in order within a sequence
    lengths = torch.bincount(sequence, minlength=max(active) + 1)[list(active)].tolist()
    return Draft(sequence[order], tokens[order], logits[order], lengths, entropies[order].cpu())


def verify(batch: Any, worker: Any, drafted: Draft, active: Sequence[int], draft_tokens: int) -> tuple[torch.Tensor, Any]:
    """One forward pass of the reasoning model over the last token and the draft of every sequence, less its last token.

    Args:
        batch: SGLang's, in a decode pass.
        worker: of the reasoning model.
        drafted: the drafts.
        active: indices of their sequences in the batch.
        draft_tokens: most tokens of a draft.

    Returns:
        (N, V) logits at the drafted positions, and SGLang's own output, whose other fields are to be filled.
    """
    device = drafted.tokens.device
    picked, counts = torch.tensor(active, device=device), torch.tensor(drafted.lengths, device=device)
    begins = torch.cumsum(counts, 0) - counts
    fed = drafted.tokens.roll(1)
    fed[begins] = batch.spec_info.bonus_tokens[picked]
    before = batch.seq_lens.long()[picked]
    steps = torch.arange(fed.numel(), device=device) - torch.repeat_interleave(begins, counts)
    positions = torch.repeat_interleave(before, counts) + steps
    rows = batch.req_pool_indices[picked]
    places, lengths = torch.arange(fed.numel(), device=device), before + counts
    if uniform := device.type == "cuda":
        # Attention back ends of GPUs verify equally many tokens of every sequence, and add them to the lengths themselves.
        fed, positions, places = fill(fed, before, counts, draft_tokens)
        counts, lengths = torch.full_like(counts, draft_tokens), before
    own = copy.copy(batch)
    own.forward_mode, own.return_logprob = ForwardMode.TARGET_VERIFY, False
    own.input_ids = fed
    own.out_cache_loc = batch.req_to_token_pool.req_to_token[torch.repeat_interleave(rows, counts).long(), positions].long()
    own.spec_info = _Verified(positions, draft_tokens)
    own.req_pool_indices, own.seq_lens = rows, before
    own.reqs = [batch.reqs[index] for index in active]
    forward = forward_batch(own, worker.model_runner)
    forward.batch_size, forward.positions = len(active), positions
    # torch_native has no metadata of its own for this pass and reads these
    forward.extend_prefix_lens, forward.extend_seq_lens = before, counts
    forward.extend_prefix_lens_cpu, forward.extend_seq_lens_cpu = before.tolist(), counts.tolist()
    forward.extend_num_tokens = fed.numel()
    forward.seq_lens, forward.seq_lens_cpu = lengths, lengths.cpu()
    forward.seq_lens_sum = int(forward.seq_lens_cpu.sum())
    output = worker.forward_batch_generation(batch=None, forward_batch=forward, is_verify=True).logits_output
    return output.next_token_logits[places] if uniform else output.next_token_logits, output
