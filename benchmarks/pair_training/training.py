"""Training the pair: pretraining on the base corpus, then expert iteration on verified solutions.

Every phase is seeded and leaves a checkpoint, so that a killed run goes on where it stopped and ends in the same weights.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import Qwen3ForCausalLM

from pair_training.corpus import CorpusShares, Document, documents, problem_document
from pair_training.evaluation import guided_rollouts
from pair_training.model import new_model
from rrti_sgl.tinypair.solutions import grade, prompt
from rrti_sgl.tinypair.tokenizer import EOS_ID, PAD_ID, encode
from rrti_sgl.tinypair.world import generate

log = logging.getLogger(__name__)

Report = Callable[[str, int, int, float], None]
"""``report(phase, step, n_steps, loss)``, called after every step."""

EXPERT_SEED_OFFSET = 1_000_000


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """Everything that decides the outcome of a training run.

    ``loss_tokens`` is the constant that a step's summed loss is divided by: a mean per batch would give the tokens of
    short documents, which are batched together, more weight than those of long ones.
    """

    seed: int = 0
    shares: CorpusShares = field(default_factory=CorpusShares)
    pretrain_steps: int = 1200
    batch_tokens: int = 4096
    pool_documents: int = 2000
    loss_tokens: int = 2000
    prompt_weight: float = 0.1
    learning_rate: float = 1e-2
    weight_decay: float = 0.05
    warmup_steps: int = 100
    checkpoint_every: int = 100
    rounds: int = 4
    round_problems: int = 500
    round_samples: int = 4
    round_kept_per_problem: int = 2
    round_epochs: int = 1
    round_learning_rate: float = 4e-4


class PoolStream:
    """The corpus in batches of similar length, each pool of documents seeded on its own.

    ``pool`` and ``offset`` say where the stream stands; setting them resumes it.
    """

    def __init__(self, config: TrainingConfig, pool: int = 0, offset: int = 0) -> None:
        self._config = config
        self._batches: list[list[Document]] = []
        self._loaded = -1
        self.pool = pool
        self.offset = offset

    def next(self) -> list[Document]:
        """Return the next batch."""
        if self._loaded != self.pool:
            seed = self._config.seed * 100_003 + self.pool
            docs = islice(documents(seed, self._config.shares), self._config.pool_documents)
            self._batches = make_batches(docs, self._config.batch_tokens, random.Random(seed))
            self._loaded = self.pool
        batch = self._batches[self.offset]
        self.offset += 1
        if self.offset == len(self._batches):
            self.pool, self.offset = self.pool + 1, 0
        return batch


def make_batches(docs: Iterable[Document], batch_tokens: int, rng: random.Random) -> list[list[Document]]:
    """Sort documents by length into batches of at most ``batch_tokens`` padded tokens, in random order."""
    batches: list[list[Document]] = [[]]
    for doc in sorted(docs, key=lambda d: len(d.ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(doc.ids) > batch_tokens:
            batches.append([])
        batches[-1].append(doc)
    rng.shuffle(batches)
    return batches


class Trainer:
    """A model with its optimisers: Muon for the matrices of the layers, AdamW for embeddings and norms."""

    def __init__(self, model: Qwen3ForCausalLM, config: TrainingConfig, learning_rate: float, n_steps: int) -> None:
        self.model = model
        self.step = 0
        self._config = config
        self._learning_rate = learning_rate
        self._n_steps = n_steps
        named = list(model.named_parameters())
        matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in named if p.ndim != 2 or "embed" in name]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                matrices,
                lr=learning_rate,
                momentum=0.95,
                weight_decay=config.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(others, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        ]

    def train_batch(self, batch: Sequence[Document]) -> float:
        """Take one optimiser step; returns the loss per weighted token."""
        rate = self._learning_rate * self._schedule()
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        ids, weights = _pad(batch, self._config.prompt_weight)
        logits = self.model(input_ids=ids[:, :-1], use_cache=False).logits
        losses = functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        total = (losses * weights[:, 1:].flatten()).sum()
        torch.autograd.backward(total / self._config.loss_tokens)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.step += 1
        return float(total.detach() / weights[:, 1:].sum())

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / max(1, min(self._config.warmup_steps, self._n_steps // 10)))
        return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.step / self._n_steps)))

    def state(self) -> dict[str, Any]:
        """Return all that :meth:`restore` needs."""
        optimizers = [optimizer.state_dict() for optimizer in self._optimizers]
        return {"model": self.model.state_dict(), "optimizers": optimizers, "step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step = state["step"]


def _pad(batch: Sequence[Document], prompt_weight: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (B, T) and loss weights (B, T); documents are padded on the right, where causal attention hides it."""
    width = max(len(doc.ids) for doc in batch)
    ids = torch.full((len(batch), width), PAD_ID)
    weights = torch.zeros(len(batch), width)
    for row, doc in enumerate(batch):
        ids[row, : len(doc.ids)] = torch.tensor(doc.ids)
        weights[row, : doc.prompt_length] = prompt_weight
        weights[row, doc.prompt_length : len(doc.ids)] = 1.0
    return ids, weights


def pretrain(config: TrainingConfig, folder: Path, report: Report, stop_at: int | None = None) -> Qwen3ForCausalLM:
    """Train the base model, from the last checkpoint in ``folder`` where there is one.

    ``stop_at`` ends early after that many steps, leaving a checkpoint (used to test resuming).
    """
    trainer = Trainer(new_model(config.seed), config, config.learning_rate, config.pretrain_steps)
    stream = PoolStream(config)
    checkpoint = folder / "pretraining.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        trainer.restore(state)
        stream = PoolStream(config, state["pool"], state["offset"])
        log.info("resuming the pretraining at step %d", trainer.step)
    last = min(config.pretrain_steps, config.pretrain_steps if stop_at is None else stop_at)
    while trainer.step < last:
        loss = trainer.train_batch(stream.next())
        report("pretraining", trainer.step, config.pretrain_steps, loss)
        if trainer.step % config.checkpoint_every == 0 or trainer.step == last:
            save_state(checkpoint, trainer.state() | {"pool": stream.pool, "offset": stream.offset})
    return trainer.model


def expert_iteration(model: Qwen3ForCausalLM, config: TrainingConfig, folder: Path, report: Report) -> Qwen3ForCausalLM:
    """Turn a base model into the reasoning model, in place: sample, keep what verifies, fine-tune; again.

    Finished rounds are read from their checkpoints.
    """
    for index in range(config.rounds):
        checkpoint = folder / f"round-{index + 1}.pt"
        if checkpoint.exists():
            model.load_state_dict(torch.load(checkpoint, weights_only=True)["model"])
            continue
        rng = random.Random(f"rrti-round:{config.seed}:{index}")
        kept = list(verified_documents(model, config, index, rng))
        log.info("round %d keeps %d solutions of %d problems", index + 1, len(kept), config.round_problems)
        epochs = [make_batches(kept, config.batch_tokens, rng) for _ in range(config.round_epochs)]
        batches = [batch for epoch in epochs for batch in epoch]
        trainer = Trainer(model, config, config.round_learning_rate, len(batches))
        for batch in batches:
            loss = trainer.train_batch(batch)
            report(f"round {index + 1}", trainer.step, len(batches), loss)
        save_state(checkpoint, {"model": model.state_dict()})
    return model


def verified_documents(
    model: Qwen3ForCausalLM, config: TrainingConfig, index: int, rng: random.Random
) -> Iterator[Document]:
    """Sample solutions of fresh training problems and yield the right ones, at most a few different ones a problem."""
    seed = EXPERT_SEED_OFFSET + config.seed * 1_000 + index
    problems = list(generate(seed, "train", config.round_problems))
    repeated = [problem for problem in problems for _ in range(config.round_samples)]
    prompts = [encode(prompt(problem)) for problem in repeated]
    rollouts = guided_rollouts(model, None, prompts, None, temperature=1.0, seed=seed, batch_size=512)
    right: dict[str, list[str]] = {}
    for problem, rollout in zip(repeated, rollouts, strict=True):
        solutions = right.setdefault(problem.question, [])
        finished = rollout.ids[-1] == EOS_ID
        if finished and grade(problem, rollout.text)[1] and rollout.text not in solutions:
            solutions.append(rollout.text)
    for problem in problems:
        solutions = right[problem.question]
        rng.shuffle(solutions)
        for solution in solutions[: config.round_kept_per_problem]:
            yield problem_document(problem, solution.split())


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial")
    torch.save(state, unfinished)
    unfinished.replace(path)
