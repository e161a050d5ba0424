"""The architecture of the pair, and reading and writing model folders."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from rrti_sgl.tinypair.tokenizer import EOS_ID, PAD_ID, VOCABULARY, save_tokenizer


def tiny_config() -> Qwen3Config:
    """Return the configuration of both models: 4 layers of width 128."""
    return Qwen3Config(
        vocab_size=len(VOCABULARY),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=EOS_ID,
        pad_token_id=PAD_ID,
    )


def new_model(seed: int) -> Qwen3ForCausalLM:
    """Return a freshly initialised model."""
    torch.manual_seed(seed)
    return Qwen3ForCausalLM(tiny_config())  # type: ignore[no-untyped-call]


def load_model(folder: Path) -> Qwen3ForCausalLM:
    """Load a model folder in float32, ready for evaluation."""
    model: Qwen3ForCausalLM = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()  # type: ignore[no-untyped-call]
    return model


def save_model(model: Qwen3ForCausalLM, folder: Path) -> None:
    """Write a model folder that ``transformers`` and SGLang load: bfloat16 weights, tokenizer, generation settings."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to(torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = model.config.to_dict()
    config |= {"architectures": ["Qwen3ForCausalLM"], "dtype": "bfloat16", "rope_theta": 10000.0}
    _write_json(folder / "config.json", config)
    _write_json(folder / "generation_config.json", {"eos_token_id": EOS_ID, "pad_token_id": PAD_ID})
    save_tokenizer(folder)


def _write_json(path: Path, record: dict[str, object]) -> None:
    path.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
