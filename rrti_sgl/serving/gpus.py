"""The GPUs of this machine, and which server gets which."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from rrti_sgl.errors import UsageError

MIB = 1 << 20
_QUERY = ("index", "uuid", "name", "memory.total", "memory.free")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Args:
        index: place among those that are visible, from 0: what `--base-gpu` counts.
        uuid: what `CUDA_VISIBLE_DEVICES` takes; unlike an index it does not depend on `CUDA_DEVICE_ORDER`.
        name: as the driver says it.
        total_bytes: its memory.
        free_bytes: what of it nobody uses.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """The GPUs (indices) of each replica of both models: `base[i]` are those of the base model's i-th server.

    A server with several GPUs splits its model over them (tensor parallelism).
    """

    base: tuple[tuple[int, ...], ...]
    reasoning: tuple[tuple[int, ...], ...]

    @property
    def shared(self) -> bool:
        """Whether a GPU holds a server of each model."""
        return not {gpu for gpus in self.base for gpu in gpus}.isdisjoint(gpu for gpus in self.reasoning for gpu in gpus)


def visible_gpus() -> list[Gpu]:
    """The NVIDIA GPUs that `CUDA_VISIBLE_DEVICES` leaves; none where there is no driver. Opens no CUDA context."""
    query = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(output, os.environ.get("CUDA_VISIBLE_DEVICES"))


def parse_gpus(output: str, visible: str | None) -> list[Gpu]:
    """The GPUs of `nvidia-smi`'s CSV (MiB), in the order of `CUDA_VISIBLE_DEVICES` where that is set.

    Raises:
        UsageError: it names a GPU that is not there, or a slice of one, whose memory is not known.
    """
    rows = [[field.strip() for field in line.split(",")] for line in output.splitlines() if line.strip()]
    found = [
        Gpu(int(index), uuid, name, int(float(total)) * MIB, int(float(free)) * MIB)
        for index, uuid, name, total, free in rows
    ]
    if visible is None:
        return found
    chosen = []
    for entry in filter(None, (part.strip() for part in visible.split(","))):
        match = [gpu for gpu in found if entry == str(gpu.index) or (len(entry) > 3 and gpu.uuid.startswith(entry))]
        if len(match) != 1:
            raise UsageError(
                f"CUDA_VISIBLE_DEVICES={visible!r} names {entry!r}, none of this machine's {len(found)} whole GPUs.",
                "Name GPUs by their index or UUID (`nvidia-smi -L`).",
            )
        chosen.append(match[0])
    return [Gpu(place, gpu.uuid, gpu.name, gpu.total_bytes, gpu.free_bytes) for place, gpu in enumerate(chosen)]


def place(
    n_gpus: int, *, replicas: int = 1, base: Sequence[int] | None = None, reasoning: Sequence[int] | None = None
) -> Placement:
    """Give every server its GPUs.

    A model whose GPUs are named has them split evenly among its replicas, in order. Where none are named, every server gets
    a GPU of its own if there are enough; else the i-th servers of both models share the i-th GPU.

    Raises:
        UsageError: a GPU is not there or named twice for one model, or there are too few.
    """
    if base is not None or reasoning is not None:
        if base is None or reasoning is None:
            raise UsageError("GPUs were named for one model only.", "Give both --base-gpu and --reasoning-gpu.")
        placement = Placement(
            _split(base, "--base-gpu", n_gpus, replicas), _split(reasoning, "--reasoning-gpu", n_gpus, replicas)
        )
        _check_sharing(placement)
        return placement
    if n_gpus < replicas:
        raise UsageError(
            f"{replicas} replicas of each model need at least {replicas} GPUs; {n_gpus} are visible.",
            f"Use --replicas {n_gpus} or fewer." if n_gpus else "Use one replica.",
        )
    offset = replicas if n_gpus >= 2 * replicas else 0
    own = tuple((index,) for index in range(replicas))
    return Placement(own, tuple((index + offset,) for index in range(replicas)))


def _check_sharing(placement: Placement) -> None:
    """Memory is split between two servers that have all their GPUs in common, or none."""
    for i, on_base in enumerate(placement.base):
        for j, on_reasoning in enumerate(placement.reasoning):
            common = set(on_base) & set(on_reasoning)
            if common and (i != j or set(on_base) != set(on_reasoning)):
                raise UsageError(
                    f"GPU {min(common)} is to be shared by servers that do not have all their GPUs in common "
                    f"(base {list(on_base)}, reasoning {list(on_reasoning)}).",
                    "Name the same GPUs in the same order for both models, or different ones.",
                )


def _split(gpus: Sequence[int], option: str, n_gpus: int, replicas: int) -> tuple[tuple[int, ...], ...]:
    named = ",".join(map(str, gpus))
    if not gpus or len(set(gpus)) != len(gpus) or not all(0 <= gpu < n_gpus for gpu in gpus):
        raise UsageError(
            f"{option} {named!r} does not name different GPUs of the {n_gpus} that are visible.",
            f"Use indices from 0 to {n_gpus - 1}." if n_gpus else "No NVIDIA GPU is visible; leave the option out.",
        )
    if len(gpus) % replicas:
        raise UsageError(
            f"{option} {named} names {len(gpus)} GPUs for {replicas} replicas.", f"Name a multiple of {replicas} GPUs."
        )
    size = len(gpus) // replicas
    return tuple(tuple(gpus[at : at + size]) for at in range(0, len(gpus), size))
