"""A pair of real text: SmolLM2-135M-Instruct as the reasoning model, and a copy with noise on its weights as the base."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from natural_pair.pretrained import STORED, in_place, smollm2, smollm2_folder

# Relative to each matrix's own spread. Half as much leaves hardly a spike; twice as much leaves no text.
NOISE, SEED = 0.1, 1


class SmolLM2Pair(NamedTuple):
    """The model folders of the pair."""

    base: Path
    reasoning: Path


def smollm2_pair() -> SmolLM2Pair:
    """Both model folders, made at the first call; later calls find them.

    Raises:
        MissingError: see `natural_pair.pretrained.smollm2`.
    """
    pair = SmolLM2Pair(smollm2_folder() / f"base-noise-{NOISE}-{SEED}", smollm2())
    if not pair.base.is_dir():
        in_place(pair.base, lambda target: _perturb(pair.reasoning, target))
    return pair


@torch.inference_mode()
def _perturb(source: Path, target: Path) -> None:
    """A copy with seeded noise on every matrix of its layers; embeddings and norms stay."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    model = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32)
    random = torch.Generator().manual_seed(SEED)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and ".layers." in name:
            weight += NOISE * weight.std() * torch.randn(weight.shape, generator=random)
    model.to(STORED).save_pretrained(target)
    AutoTokenizer.from_pretrained(source).save_pretrained(target)
