"""A low-rank adapter (Hu et al., arXiv 2106.09685) on every linear layer of a llama, in plain torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoTokenizer, LlamaForCausalLM

Weights = dict[str, torch.Tensor]
RANK = 8
SCALE = 2.0


class LowRank(nn.Module):
    """A frozen linear layer W with what is learned beside it: x W' + scale * x down' up'.

    `down` is (rank, in) and `up` (out, rank), both float32; `up` begins at zero, so that nothing changes at first.
    """

    def __init__(self, linear: nn.Linear, rank: int = RANK, scale: float = SCALE) -> None:
        super().__init__()
        self.linear = linear
        self.scale = scale
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), in the precision of the layer."""
        beside = nn.functional.linear(nn.functional.linear(x, self.down.to(x.dtype)), self.up.to(x.dtype))
        out: torch.Tensor = self.linear(x) + self.scale * beside
        return out


def attach(model: LlamaForCausalLM, rank: int = RANK) -> LlamaForCausalLM:
    """Freeze a model and put an adapter beside every linear layer of its blocks, in place."""
    model.requires_grad_(False)
    for _, parent, name, linear in list(_linears(model)):
        setattr(parent, name, LowRank(linear, rank))
    return model


def adapter_weights(model: LlamaForCausalLM) -> Weights:
    """The adapter of a model, by the names that `load_adapter` and `merge` read: `<layer>.down`, `<layer>.up`."""
    return {name: value.detach() for name, value in model.named_parameters() if value.requires_grad}


def load_adapter(model: LlamaForCausalLM, weights: Weights) -> None:
    """Set the adapter of a model that has one."""
    found = model.load_state_dict(weights, strict=False)
    assert not found.unexpected_keys, found.unexpected_keys


def save_adapter(weights: Weights, path: Path) -> None:
    """Write an adapter in bfloat16: 4.9 MB of rank 8 for SmolLM2-135M."""
    stored = {name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()}
    unfinished = path.with_suffix(".partial")
    save_file(stored, unfinished, metadata={"scale": str(SCALE)})
    unfinished.replace(path)
    path.chmod(0o644)


def read_adapter(path: Path) -> Weights:
    """The stored adapter, in float32."""
    with safe_open(path, "pt") as file:
        assert file.metadata()["scale"] == str(SCALE)
        return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118


@torch.inference_mode()
def merge(base: Path, weights: Weights, target: Path) -> None:
    """Write a model folder whose matrices are base + scale * up @ down, in float32: what servers load."""
    model = LlamaForCausalLM.from_pretrained(base, dtype=torch.float32)
    left = set(weights)
    for name, _, _, linear in _linears(model):
        down, up = (weights[f"{name}.{part}"] for part in ("down", "up"))
        linear.weight += SCALE * (up.float() @ down.float())
        left -= {f"{name}.down", f"{name}.up"}
    assert not left, left
    unfinished = target.with_name(f"{target.name}.partial")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    AutoTokenizer.from_pretrained(base).save_pretrained(unfinished)
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def _linears(model: LlamaForCausalLM) -> Iterator[tuple[str, nn.Module, str, nn.Linear]]:
    """(full name, parent, name in it, layer) of every linear layer of the blocks; not the head, which is the embedding."""
    for full, module in model.named_modules():
        if isinstance(module, nn.Linear) and ".layers." in full:
            parent, _, name = full.rpartition(".")
            yield full, model.get_submodule(parent), name, module
