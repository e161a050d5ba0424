"""Configurations of the models that the README names, as their `config.json` have them, and GPUs to put them on."""

from __future__ import annotations

from typing import Any

from rrti_sgl.serving.gpus import Gpu
from rrti_sgl.serving.model_size import ModelSize, size_from_config

GIB = 1 << 30

QWEN3_06B: dict[str, Any] = {
    "model_type": "qwen3",
    "hidden_size": 1024,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 3072,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 32768,
    "torch_dtype": "bfloat16",
}
QWEN3_8B: dict[str, Any] = QWEN3_06B | {
    "hidden_size": 4096,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "intermediate_size": 12288,
    "tie_word_embeddings": False,
    "max_position_embeddings": 40960,
}


def readme_pair() -> list[ModelSize]:
    return [size_from_config("Qwen3-0.6B-Base", QWEN3_06B), size_from_config("Qwen3-8B", QWEN3_8B)]


def gpus(n: int, gib: float = 80) -> list[Gpu]:
    return [Gpu(i, f"GPU-{i}{i}{i}{i}", "H100", int(gib * GIB), int(gib * GIB)) for i in range(n)]
