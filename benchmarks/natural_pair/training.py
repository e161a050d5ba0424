"""Training an adapter on solutions: batches of similar length, loss on the solution alone, checkpoints."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import LlamaForCausalLM

from natural_pair.adapter import Weights, adapter_weights, attach, load_adapter
from pair_training.corpus import Document
from pair_training.training import make_batches, save_state
from rrti_sgl.prompts import PromptTemplate
from rrti_sgl.tokens.vocabulary import Vocabulary

Report = Callable[[str, int, int, float], None]
"""`report(phase, step, n_steps, loss)`, called after every step."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What decides the outcome of one phase; a step's summed loss is divided by the constant `loss_tokens`."""

    learning_rate: float
    epochs: int = 1
    batch_tokens: int = 1024
    loss_tokens: int = 500
    warmup_steps: int = 10
    checkpoint_every: int = 20
    seed: int = 0


def documents(solved: Iterable[tuple[str, str]], template: PromptTemplate, vocabulary: Vocabulary) -> list[Document]:
    """(question, solution) pairs as ids: the prompt that the model will be shown, the solution, and the end token."""
    assert vocabulary.end_token_id is not None
    made = []
    for question, solution in solved:
        prompt = template.render(question, vocabulary)[1]
        made.append(Document((*prompt, *vocabulary.encode(solution), vocabulary.end_token_id), len(prompt)))
    return made


def train(
    base: Path,
    start: Weights | None,
    docs: Sequence[Document],
    config: TrainingConfig,
    checkpoint: Path,
    report: Report,
    *,
    stop_at: int | None = None,
) -> Weights:
    """Train an adapter from `start`, or from nothing, on every document `epochs` times; returns it.

    Goes on from `checkpoint` where there is one, and ends in the same weights as if it had not been stopped. `stop_at` ends
    after that many steps, leaving a checkpoint.
    """
    torch.manual_seed(config.seed)
    model = attach(LlamaForCausalLM.from_pretrained(base, dtype=torch.bfloat16))
    if start is not None:
        load_adapter(model, start)
    rng = random.Random(f"natural-batches:{config.seed}")
    batches = [batch for _ in range(config.epochs) for batch in make_batches(docs, config.batch_tokens, rng) if batch]
    trainer = Trainer(model, config, len(batches))
    if checkpoint.exists():
        trainer.restore(torch.load(checkpoint, weights_only=True))
    last = len(batches) if stop_at is None else min(stop_at, len(batches))
    while trainer.step < last:
        loss = trainer.train_batch(batches[trainer.step])
        report(checkpoint.stem, trainer.step, len(batches), loss)
        if trainer.step % config.checkpoint_every == 0 or trainer.step == last:
            save_state(checkpoint, trainer.state())
    return adapter_weights(model)


class Trainer:
    """A model whose adapter alone is trained, by AdamW with a warm-up and a cosine to a tenth."""

    def __init__(self, model: LlamaForCausalLM, config: TrainingConfig, n_steps: int) -> None:
        self.model = model
        self.step = 0
        self._config = config
        self._n_steps = n_steps
        self._parameters = [value for value in model.parameters() if value.requires_grad]
        self._optimizer = torch.optim.AdamW(self._parameters, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0)

    def train_batch(self, batch: Sequence[Document]) -> float:
        """Take one step; returns the loss per solution token, in nats."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._config.learning_rate * self._schedule()
        ids, is_solution = _pad(batch)
        hidden = self.model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
        predicts = is_solution[:, 1:]  # the head is a fifth of the model: it is asked where there is a loss
        logits = self.model.lm_head(hidden[predicts]).float()
        total = functional.cross_entropy(logits, ids[:, 1:][predicts], reduction="sum")
        torch.autograd.backward(total / self._config.loss_tokens)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        return float(total.detach() / predicts.sum())

    def _schedule(self) -> float:
        warm = min(1.0, (self.step + 1) / self._config.warmup_steps)
        return warm * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * self.step / self._n_steps)))

    def state(self) -> dict[str, Any]:
        """All that `restore` needs."""
        return {"adapter": adapter_weights(self.model), "optimizer": self._optimizer.state_dict(), "step": self.step}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        load_adapter(self.model, state["adapter"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def _pad(batch: Sequence[Document]) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, T) ids and (B, T) whether a token is of a solution; padded on the right, where causal attention hides it."""
    width = max(len(doc.ids) for doc in batch)
    ids = torch.zeros((len(batch), width), dtype=torch.long)
    is_solution = torch.zeros((len(batch), width), dtype=torch.bool)
    for row, doc in enumerate(batch):
        ids[row, : len(doc.ids)] = torch.tensor(doc.ids)
        is_solution[row, doc.prompt_length : len(doc.ids)] = True
    return ids, is_solution
