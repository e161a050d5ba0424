"""How much memory a model takes: its weights, and the KV cache of one token, read without loading the model."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrti_sgl import bounds
from rrti_sgl.errors import UsageError

_DTYPE_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2, "fp8_e4m3": 1, "fp8_e5m2": 1}
_STORED_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I8": 1, "U8": 1}
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})  # converted to the dtype that is served; all else stays as it is stored
_DENSE = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "olmo2", "phi3"})
_REMEDY = "Give each server its share yourself, in its own flags: --mem-fraction-static."


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model takes on a GPU.

    Args:
        name: hub id or folder.
        weight_bytes: of all weights as they are served.
        kv_bytes_per_token: of keys and values of one token over all layers.
        kv_heads: key and value heads, over which tensor parallelism splits the cache.
        vocab_size: entries of the output distribution.
        max_context: positions that the model was made for, tokens.
    """

    name: str
    weight_bytes: int
    kv_bytes_per_token: int
    kv_heads: int
    vocab_size: int
    max_context: int

    def on_each_of(self, n_gpus: int) -> ModelSize:
        """What each of n GPUs holds of it under tensor parallelism; heads that cannot be split are on several."""
        if n_gpus == 1:
            return self
        heads = max(1, math.ceil(self.kv_heads / n_gpus))
        return ModelSize(
            self.name,
            math.ceil(self.weight_bytes / n_gpus),
            math.ceil(self.kv_bytes_per_token * heads / self.kv_heads),
            heads,
            self.vocab_size,
            self.max_context,
        )


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor as a safetensors header describes it: its name, stored type ("BF16") and number of entries."""

    name: str
    dtype: str
    entries: int


def size_from_config(
    name: str,
    config: Mapping[str, Any],
    tensors: Iterable[StoredTensor] | None = None,
    *,
    dtype: str = "auto",
    kv_dtype: str = "auto",
) -> ModelSize:
    """Size of a model from its `config.json`, and from its weight files' headers where they are known.

    Without them the parameters of a dense decoder are counted from the configuration (grouped-query attention, gated MLP).
    Sliding-window layers count as full ones: an upper bound.

    Args:
        name: for messages.
        config: the model's `config.json`.
        tensors: what its safetensors files hold.
        dtype: what it is served in (SGLang's `--dtype`).
        kv_dtype: type of the KV cache (SGLang's `--kv-cache-dtype`).

    Raises:
        UsageError: a field is missing, or the architecture keeps something other than keys and values of every layer.
    """
    text: Mapping[str, Any] = config.get("text_config") or config
    if not isinstance(text, Mapping):
        raise UsageError(f"The config.json of {name!r} has no usable text_config = {text!r:.60}.", _REMEDY)
    served = _served_dtype(name, dtype, text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype"))
    number = functools.partial(_number, name, text)
    layers, heads, hidden = map(number, ("num_hidden_layers", "num_attention_heads", "hidden_size"))
    vocab, context = number("vocab_size"), number("max_position_embeddings")
    named = text.get("layer_types")
    kinds = set(map(str, named if isinstance(named, list) else ())) - {"full_attention", "sliding_attention"}
    if "kv_lora_rank" in text or kinds:
        raise UsageError(
            f"{name!r} caches something other than keys and values ({', '.join(sorted(kinds)) or 'latent attention'}); "
            "its memory cannot be planned.",
            _REMEDY,
        )
    kv_heads, head_dim = number("num_key_value_heads", heads), number("head_dim", hidden // heads)
    tied = bool(text.get("tie_word_embeddings", config.get("tie_word_embeddings", False)))
    cache_bytes = _DTYPE_BYTES.get(kv_dtype, served)
    if tensors is not None:
        weight_bytes = _stored_bytes(tensors, served, tied)
    else:
        weight_bytes = served * _parameters(name, text, tied, layers, hidden, heads * head_dim, kv_heads * head_dim)
    return ModelSize(name, weight_bytes, 2 * layers * kv_heads * head_dim * cache_bytes, kv_heads, vocab, context)


def _number(name: str, text: Mapping[str, Any], field: str, default: int | None = None) -> int:
    """A field of a configuration that counts something; the default where it is missing or null."""
    value = default if text.get(field) is None else text[field]
    if type(value) is not int or not 1 <= value <= bounds.WHOLE:
        raise UsageError(f"The config.json of {name!r} has no usable {field} ({value!r:.60}).", _REMEDY)
    return value


def _served_dtype(name: str, dtype: str, stored: object) -> int:
    """Bytes of one weight; SGLang's "auto" serves float32 checkpoints in 16 bits."""
    if dtype == "auto":
        return 2 if stored in (None, "float32") else _bytes_of(name, str(stored))
    return _bytes_of(name, dtype)


def _bytes_of(name: str, dtype: str) -> int:
    if dtype not in _DTYPE_BYTES:
        raise UsageError(f"{name!r} is of dtype {dtype!r}, whose size is not known.", _REMEDY)
    return _DTYPE_BYTES[dtype]


def _stored_bytes(tensors: Iterable[StoredTensor], served: int, tied: bool) -> int:
    """Bytes of the weights once loaded; an output layer that is tied to the embedding is not kept a second time."""
    return sum(
        tensor.entries * (served if tensor.dtype in _FLOATS else _STORED_BYTES.get(tensor.dtype, 8))
        for tensor in tensors
        if not (tied and tensor.name.endswith("lm_head.weight"))
    )


def _parameters(name: str, text: Mapping[str, Any], tied: bool, layers: int, hidden: int, q: int, kv: int) -> int:
    """Parameters of a dense decoder; `q` and `kv` are the widths of queries and of keys."""
    if str(text.get("model_type")) not in _DENSE or "intermediate_size" not in text:
        raise UsageError(
            f"The weight files of {name!r} cannot be read, and parameters of type {text.get('model_type')!r} cannot be "
            "counted from config.json.",
            "Download the model first. " + _REMEDY,
        )
    embeddings = text["vocab_size"] * hidden * (1 if tied else 2)
    attention = 2 * hidden * q + 2 * hidden * kv
    biases = q + 2 * kv if text["model_type"] == "qwen2" or text.get("attention_bias") else 0
    head_norms = 2 * (text.get("head_dim") or 0) if text["model_type"] == "qwen3" else 0
    layer = attention + biases + head_norms + 3 * hidden * _number(name, text, "intermediate_size") + 2 * hidden
    total: int = embeddings + layers * layer + hidden
    return total


def read_model_size(model: str, *, dtype: str = "auto", kv_dtype: str = "auto") -> ModelSize:
    """Size of a model in a folder or on the hub; nothing but its configuration and its files' headers is read.

    Raises:
        UsageError: its config.json cannot be had, or says too little.
    """
    folder = Path(model)
    if folder.is_dir():
        config, tensors = _folder_config(folder), _folder_tensors(folder)
    else:
        config, tensors = _hub_config(model), _hub_tensors(model)
    return size_from_config(model, config, tensors, dtype=dtype, kv_dtype=kv_dtype)


def _folder_config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{folder} has no readable config.json ({error}).", "Name a folder that holds a model.") from error


def _folder_tensors(folder: Path) -> list[StoredTensor] | None:
    files = sorted(folder.glob("*.safetensors"))
    return [tensor for file in files for tensor in read_header(file)] if files else None


def read_header(file: Path) -> list[StoredTensor]:
    """The tensors of one safetensors file; none of them is loaded.

    Raises:
        UsageError: the file is not whole, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "numpy") as opened:
            slices = [(name, opened.get_slice(name)) for name in opened.keys()]  # noqa: SIM118  # it is no mapping
            return [StoredTensor(name, part.get_dtype(), math.prod(part.get_shape())) for name, part in slices]
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{file} is no safetensors file ({error}).", "Download it again.") from error


def _hub_config(model: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    try:
        return dict(json.loads(Path(hf_hub_download(model, "config.json")).read_bytes()))
    except Exception as error:  # the hub's client raises many kinds for one cause: it is not there
        reason = str(error).splitlines()[0] if str(error) else ""
        raise UsageError(
            f"The config.json of {model!r} cannot be had ({type(error).__name__}: {reason}).",
            "Name a folder, or a hub id that this machine can reach.",
        ) from error


def _hub_tensors(model: str) -> list[StoredTensor] | None:
    """From the hub's headers; None where it cannot be asked, as for a model that is only in the local cache."""
    from huggingface_hub import get_safetensors_metadata

    try:
        metadata = get_safetensors_metadata(model)
    except Exception:  # as above; the configuration then has to do
        return None
    return [
        StoredTensor(name, tensor.dtype, tensor.parameter_count)
        for file in metadata.files_metadata.values()
        for name, tensor in file.tensors.items()
    ]
