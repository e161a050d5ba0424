"""Sizes read from configurations and headers equal published parameter counts and real files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.serving.model_size import StoredTensor, read_header, read_model_size, size_from_config
from rrti_sgl.tinypair.bundle import bundled_pair
from tests.serving.models import QWEN3_06B, QWEN3_8B, readme_pair

LLAMA_31_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
QWEN25_15B: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 1536,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "intermediate_size": 8960,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("config", "parameters", "kv_bytes"),
    [
        (QWEN3_06B, 596_049_920, 114_688),  # 2 x 28 layers x 8 heads x 128 x 2 bytes
        (QWEN3_8B, 8_190_735_360, 147_456),
        (LLAMA_31_8B, 8_030_261_248, 131_072),
        (QWEN25_15B, 1_543_714_304, 28_672),
    ],
    ids=["qwen3-0.6b", "qwen3-8b", "llama-3.1-8b", "qwen2.5-1.5b"],
)
def test_parameters_are_the_published_ones(config: dict[str, Any], parameters: int, kv_bytes: int) -> None:
    size = size_from_config("m", config)
    assert size.weight_bytes == 2 * parameters
    assert size.kv_bytes_per_token == kv_bytes


def test_types_change_weights_and_cache() -> None:
    assert size_from_config("m", QWEN3_06B, dtype="float32").weight_bytes == 4 * 596_049_920
    assert size_from_config("m", QWEN3_06B, dtype="float32").kv_bytes_per_token == 229_376
    assert size_from_config("m", QWEN3_06B, kv_dtype="fp8_e5m2").kv_bytes_per_token == 57_344
    assert size_from_config("m", QWEN3_06B | {"torch_dtype": "float32"}).weight_bytes == 2 * 596_049_920
    with pytest.raises(UsageError, match="'int3'"):
        size_from_config("m", QWEN3_06B, dtype="int3")


def test_a_tied_output_layer_in_the_file_is_not_counted_twice() -> None:
    tensors = [
        StoredTensor("model.embed_tokens.weight", "BF16", 1000),
        StoredTensor("model.q", "F32", 10),
        StoredTensor("lm_head.weight", "BF16", 1000),
        StoredTensor("model.scales", "U8", 7),
    ]
    assert size_from_config("m", QWEN3_06B, tensors).weight_bytes == 2000 + 20 + 7
    assert size_from_config("m", QWEN3_8B, tensors).weight_bytes == 4000 + 20 + 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": None}, r"no usable num_hidden_layers \(None\)"),
        ({"num_attention_heads": 0}, r"no usable num_attention_heads \(0\)"),
        ({"num_key_value_heads": -1}, r"no usable num_key_value_heads \(-1\)"),
        ({"head_dim": "x"}, "no usable head_dim"),
        ({"intermediate_size": "x"}, "no usable intermediate_size"),
        ({"vocab_size": 10**400}, "no usable vocab_size"),
        ({"text_config": "x"}, "no usable text_config"),
        ({"layer_types": [["x"]]}, "caches something other"),
        ({"kv_lora_rank": 512}, "latent attention"),
        ({"layer_types": ["linear_attention", "full_attention"]}, "linear_attention"),
        ({"model_type": "qwen3_moe"}, "qwen3_moe"),
    ],
)
def test_what_cannot_be_planned_is_refused_with_a_way_out(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        size_from_config("m", QWEN3_06B | change)
    assert "--mem-fraction-static" in caught.value.remedy


def test_tensor_parallelism_splits_heads_while_there_are_any() -> None:
    whole = readme_pair()[1]
    assert whole.on_each_of(1) == whole
    assert whole.on_each_of(2).kv_bytes_per_token == whole.kv_bytes_per_token // 2
    assert whole.on_each_of(16).kv_bytes_per_token == whole.kv_bytes_per_token // 8
    assert 16 * whole.on_each_of(16).weight_bytes >= whole.weight_bytes


def test_a_real_folder_is_read_from_its_headers() -> None:
    from safetensors import safe_open

    folder = bundled_pair().base
    entries = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(str(file), "pt") as tensors:
            entries += sum(tensors.get_tensor(name).numel() for name in tensors.keys())  # noqa: SIM118
    config = json.loads((folder / "config.json").read_text())
    assert read_model_size(str(folder), dtype="float32").weight_bytes == 4 * entries
    assert read_model_size(str(folder)).vocab_size == config["vocab_size"]


def test_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no readable config\.json"):
        read_model_size(str(tmp_path))
    whole = next(bundled_pair().base.glob("*.safetensors")).read_bytes()
    for cut in (len(whole) - 1, 9, 0):
        (tmp_path / "cut.safetensors").write_bytes(whole[:cut])
        with pytest.raises(UsageError, match="no safetensors file"):
            read_header(tmp_path / "cut.safetensors")
    with pytest.raises(UsageError, match="absent"):
        read_header(tmp_path / "absent.safetensors")
