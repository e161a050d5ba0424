"""A base and a reasoning model of random weights with a vocabulary of real size, small enough to make in a second.

    python benchmarks/random_pair.py build/random_pair            # 151,936 entries, two folders of about 40 MB

Random weights give almost uniform distributions as they are. Here the last norm scales the logits up, by factors that
differ from dimension to dimension, so that some positions are nearly certain and others wide open, as in real models. The
reasoning model is the base model with noise mixed into every matrix. There is no tokenizer: serve with
`--skip-tokenizer-init` and speak token ids.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

VOCAB_SIZE = 151_936
HIDDEN_SIZE = 64
SHARPNESS = 1.4  # of the last norm: with it the median entropy is about 1 nat and the top 20 hold 98 %
NOISE = 0.05  # share of noise in the reasoning model's matrices


def make_model(vocab_size: int, seed: int) -> Qwen3ForCausalLM:
    """A small Qwen3 whose logits spread as those of a trained model do."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=vocab_size,
        hidden_size=HIDDEN_SIZE,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=0,
    )
    model = Qwen3ForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(0.0, 1.0)
        model.model.norm.weight.copy_(torch.exp(torch.randn(HIDDEN_SIZE) * 0.8) * SHARPNESS * 0.6)
    return model


def mix(base: Qwen3ForCausalLM, seed: int) -> Qwen3ForCausalLM:
    """A second model: each matrix of the base model with noise of its own size mixed in."""
    torch.manual_seed(seed)
    mixed = Qwen3ForCausalLM(base.config)
    mixed.load_state_dict(base.state_dict())
    with torch.no_grad():
        for weight in mixed.parameters():
            if weight.ndim == 2:
                noise = torch.randn_like(weight) * weight.std()
                weight.mul_((1 - NOISE**2) ** 0.5).add_(noise, alpha=NOISE)
    return mixed


def make_pair(folder: Path, vocab_size: int = VOCAB_SIZE, seed: int = 0) -> tuple[Path, Path]:
    """Write both models, unless they are there already; returns their folders."""
    folders = folder / "base", folder / "reasoning"
    if not all((path / "model.safetensors").exists() for path in folders):
        base = make_model(vocab_size, seed)
        base.save_pretrained(folders[0])
        mix(base, seed + 1).save_pretrained(folders[1])
    return folders


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocab-size", type=int, default=VOCAB_SIZE)
    arguments = parser.parse_args()
    print(*make_pair(arguments.folder, arguments.vocab_size), sep="\n")
