"""Pairs of random weights and chosen sizes with the bundled tokenizer: slower than the bundled pair, and without meaning."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from rrti_sgl.tinypair.tokenizer import PAD_ID, VOCABULARY, save_tokenizer

BUILD = Path("build")
RANDOM = {
    "random-20M": ((512, 8, 1024), (512, 8, 1024)),  # the same weights, those of the reasoning model a little shaken
    "random-8M-90M": ((256, 8, 1024), (768, 12, 2560)),
}
"""(width, layers, inner width) of base and reasoning."""


def make_sized_pair(name: str) -> tuple[Path, Path]:
    """The folders of a random pair, made anew."""
    sizes = RANDOM[name]
    for side, (width, layers, inner) in zip(("base", "reasoning"), sizes, strict=True):
        torch.manual_seed(0)
        config = Qwen3Config(
            vocab_size=len(VOCABULARY), hidden_size=width, num_hidden_layers=layers, num_attention_heads=8,
            num_key_value_heads=4, head_dim=64, intermediate_size=inner, tie_word_embeddings=True,
            max_position_embeddings=512, initializer_range=0.1, bos_token_id=None, eos_token_id=None, pad_token_id=PAD_ID,
        )  # fmt: skip
        model = Qwen3ForCausalLM(config)
        if side == "reasoning" and sizes[0] == sizes[1]:
            with torch.no_grad():
                for weights in model.parameters():
                    weights += 0.02 * torch.randn_like(weights)
        model.save_pretrained(BUILD / name / side)
        save_tokenizer(BUILD / name / side)
    return BUILD / name / "base", BUILD / name / "reasoning"
