"""Generating, scoring and guided decoding of the pair in plain torch, one token at a time.

:func:`guided_rollouts` asks both models at every position and lets the reasoning model take over exactly one token where
its gate says so. It knows nothing of servers, drafts or truncated distributions, so other ways of decoding can be checked
against it. All logits are float32 and all scores are over the full vocabulary, in nats.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Cache, Qwen3ForCausalLM

from rrti_sgl.science import calibration as thresholds
from rrti_sgl.tinypair.tokenizer import EOS_ID, PAD_ID, decode

MAX_NEW_TOKENS = 110


@dataclass(frozen=True, slots=True)
class Step:
    """What a gate sees: one position of the running batch.

    ``rows`` (B,) are indices into the list of prompts; scores are (B,), in nats; ``cross_entropy`` is NaN where the base
    model decodes alone.
    """

    position: int
    rows: torch.Tensor
    cross_entropy: torch.Tensor
    base_entropy: torch.Tensor


Gate = Callable[[Step], torch.Tensor]
"""Returns which rows the reasoning model takes over at a step, bool (B,)."""


@dataclass(slots=True)
class Rollout:
    """One generated sequence. Lists have one entry per generated token, the end token included.

    ``cross_entropy`` and ``base_entropy`` are in nats; ``takeover`` marks tokens that the reasoning model chose, and
    ``changed`` those of them that differ from what the base model would have taken.
    """

    ids: list[int] = field(default_factory=list)
    cross_entropy: list[float] = field(default_factory=list)
    base_entropy: list[float] = field(default_factory=list)
    takeover: list[bool] = field(default_factory=list)
    changed: list[bool] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The generated text, without the end token."""
        return decode(self.ids)


def cross_entropy(base_logprobs: torch.Tensor, reasoning_logprobs: torch.Tensor) -> torch.Tensor:
    """Return ``CE(p_b, p_r) = - sum_y p_b(y) log p_r(y)`` in nats: (..., V), (..., V) -> (...)."""
    return -(base_logprobs.exp() * reasoning_logprobs).sum(-1)


def entropy(logprobs: torch.Tensor) -> torch.Tensor:
    """Return the Shannon entropy in nats: (..., V) -> (...)."""
    return cross_entropy(logprobs, logprobs)


class _Decoder:
    """A model with the KV cache of one left-padded batch."""

    def __init__(self, model: Qwen3ForCausalLM, prompts: Sequence[Sequence[int]]) -> None:
        width = max(len(prompt) for prompt in prompts)
        self._model = model
        self._ids = torch.tensor([[PAD_ID] * (width - len(p)) + list(p) for p in prompts])
        self._mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        self._cache: Cache | None = None

    def logprobs(self) -> torch.Tensor:
        """Return the next-token log-probabilities, (B, V)."""
        positions = (self._mask.cumsum(-1) - 1).clamp(min=0)[:, -self._ids.shape[1] :]
        out = self._model(
            input_ids=self._ids,
            attention_mask=self._mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = out.past_key_values
        return torch.log_softmax(out.logits[:, -1].float(), -1)

    def append(self, tokens: torch.Tensor) -> None:
        """Continue with one token per row, (B,)."""
        self._ids = tokens[:, None]
        self._mask = torch.cat([self._mask, torch.ones_like(self._ids)], -1)

    def keep(self, rows: torch.Tensor) -> None:
        """Go on with these rows of the batch alone."""
        self._ids, self._mask = self._ids[rows], self._mask[rows]
        if self._cache is not None:
            self._cache.reorder_cache(rows.long())  # type: ignore[arg-type]


def _record(
    rollouts: list[Rollout], step: Step, tokens: torch.Tensor, takeover: torch.Tensor, changed: torch.Tensor
) -> None:
    columns = (step.rows, tokens, step.cross_entropy, step.base_entropy, takeover, changed)
    for row, *values in zip(*(column.tolist() for column in columns), strict=True):
        rollout = rollouts[row]
        lists = (rollout.ids, rollout.cross_entropy, rollout.base_entropy, rollout.takeover, rollout.changed)
        for target, value in zip(lists, values, strict=True):
            target.append(value)


def _choose(logprobs: torch.Tensor, temperature: float, uniform: torch.Tensor) -> torch.Tensor:
    """Take the mode at temperature 0, else invert the cumulative distribution at ``uniform``: (B, V), (B,) -> (B,)."""
    if temperature == 0:
        return logprobs.argmax(-1)
    cumulative = torch.softmax(logprobs / temperature, -1).cumsum(-1)
    return (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(-1).clamp(max=logprobs.shape[-1] - 1)


@torch.inference_mode()
def guided_rollouts(
    base: Qwen3ForCausalLM,
    reasoning: Qwen3ForCausalLM | None,
    prompts: Sequence[Sequence[int]],
    gate: Gate | None,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> list[Rollout]:
    """Decode with the base model, the reasoning model taking over single tokens where the gate says so.

    Parameters
    ----------
    reasoning
        ``None`` decodes with ``base`` alone (then ``gate`` must be ``None`` and no cross-entropy is recorded).
    gate
        ``None`` never takes over, but still scores every position.
    seed
        Seeds the draws at a temperature above 0; base and takeover tokens are drawn from the same uniform number.

    Returns
    -------
    list of Rollout
        In the order of ``prompts``.
    """
    rollouts = [Rollout() for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    generator = torch.Generator().manual_seed(seed)
    for at in range(0, len(order), batch_size):
        rows = torch.tensor(order[at : at + batch_size])
        models = [base] if reasoning is None else [base, reasoning]
        decoders = [_Decoder(model, [prompts[i] for i in rows.tolist()]) for model in models]
        for position in range(max_new_tokens):
            uniform = torch.rand(len(rows), generator=generator)
            base_logprobs = decoders[0].logprobs()
            own = tokens = _choose(base_logprobs, temperature, uniform)
            takeover = torch.zeros(len(rows), dtype=torch.bool)
            scores = torch.full((len(rows),), float("nan"))
            if reasoning is not None:
                reasoning_logprobs = decoders[1].logprobs()
                scores = cross_entropy(base_logprobs, reasoning_logprobs)
            step = Step(position, rows, scores, entropy(base_logprobs))
            if reasoning is not None and gate is not None:
                takeover = gate(step)
                tokens = torch.where(takeover, _choose(reasoning_logprobs, temperature, uniform), own)
            _record(rollouts, step, tokens, takeover, tokens != own)
            going = (tokens != EOS_ID).nonzero()[:, 0]
            if not len(going):
                break
            for decoder in decoders:
                decoder.append(tokens)
                if len(going) < len(rows):
                    decoder.keep(going)
            rows = rows[going]
    return rollouts


def threshold_gate(tau: float) -> Gate:
    """Take over where the cross-entropy is above ``tau``."""
    return lambda step: step.cross_entropy > tau


def entropy_gate(tau: float) -> Gate:
    """Take over where the base model's own entropy is above ``tau``."""
    return lambda step: step.base_entropy > tau


def random_gate(share: float, n_prompts: int, seed: int = 0) -> Gate:
    """Take over at random positions, each with probability ``share``."""
    draws = torch.rand(n_prompts, MAX_NEW_TOKENS, generator=torch.Generator().manual_seed(seed))
    return lambda step: draws[step.rows, step.position] < share


def early_gate(share: float, lengths: Sequence[int]) -> Gate:
    """Take over at the first ``share`` of the positions, ``lengths`` being the base rollouts' lengths, one a prompt."""
    ends = torch.tensor([round(share * length) for length in lengths])
    return lambda step: step.position < ends[step.rows]


def calibrate(rollouts: Sequence[Rollout], ratio: float, *, by: str = "cross_entropy") -> float:
    """Return tau of the package's rule from all scores of base rollouts: at most ``ratio`` of them lie above it."""
    return thresholds.calibrate(np.concatenate([getattr(rollout, by) for rollout in rollouts]), ratio).tau


def realised_budget(rollouts: Sequence[Rollout]) -> float:
    """Return the share of all generated tokens at which the reasoning model took over."""
    return sum(sum(r.takeover) for r in rollouts) / sum(len(r.ids) for r in rollouts)


@torch.inference_mode()
def score_rollouts(
    base: Qwen3ForCausalLM,
    reasoning: Qwen3ForCausalLM,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    batch_size: int = 256,
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Score given rollouts teacher-forced with both models.

    Returns
    -------
    list of (base_logprobs, reasoning_logprobs)
        Each (T, V), row ``t`` being the distribution that token ``t`` of the completion was drawn from.
    """
    results = []
    for at in range(0, len(prompts), batch_size):
        pairs = list(zip(prompts[at : at + batch_size], completions[at : at + batch_size], strict=True))
        width = max(len(p) + len(c) for p, c in pairs)
        ids = torch.tensor([[*p, *c, *[PAD_ID] * (width - len(p) - len(c))] for p, c in pairs])
        both = [torch.log_softmax(m(input_ids=ids, use_cache=False).logits.float(), -1) for m in (base, reasoning)]
        for row, (p, c) in enumerate(pairs):
            scored = slice(len(p) - 1, len(p) + len(c) - 1)
            results.append((both[0][row, scored].numpy(), both[1][row, scored].numpy()))
    return results
