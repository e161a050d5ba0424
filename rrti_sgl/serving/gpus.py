"""The GPUs of this machine, and which server gets which."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rrti_sgl.errors import UsageError, argument

logger = logging.getLogger(__name__)

MIB = 1 << 20


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
    """The NVIDIA GPUs that `CUDA_VISIBLE_DEVICES` leaves; none where there is no driver. Opens no CUDA context.

    Raises:
        UsageError: the driver does not answer, or `CUDA_VISIBLE_DEVICES` names what is no whole GPU of this machine.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            found = [_gpu(index) for index in range(pynvml.nvmlDeviceGetCount())]
        finally:
            pynvml.nvmlShutdown()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        logger.info("no NVIDIA driver: %s", error)
        return []
    except pynvml.NVMLError as error:
        raise UsageError(
            f"The NVIDIA driver does not answer ({error}).",
            f"`nvidia-smi` may say more. Or use {argument('device', 'cpu')}.",
        ) from error
    return choose(found, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _gpu(index: int) -> Gpu:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name, uuid = pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetUUID(handle)
    return Gpu(index, uuid, name, int(memory.total), int(memory.free))


def choose(found: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """Those of a machine's GPUs that `CUDA_VISIBLE_DEVICES` names, in its order and with their places in it; None names all.

    Raises:
        UsageError: it names a GPU that is not there, or a slice of one, whose memory is not known.
    """
    if visible is None:
        return list(found)
    chosen = []
    for entry in filter(None, (part.strip() for part in visible.split(","))):
        match = [gpu for gpu in found if entry == str(gpu.index) or (len(entry) > 3 and gpu.uuid.startswith(entry))]
        if len(match) != 1:
            raise UsageError(
                f"CUDA_VISIBLE_DEVICES={visible!r} names {entry!r}, none of this machine's {len(found)} whole GPUs.",
                "Name GPUs by their index or UUID (`nvidia-smi -L`).",
            )
        if match[0] in chosen:
            raise UsageError(f"CUDA_VISIBLE_DEVICES={visible!r} names GPU {match[0].index} twice.", "Name each GPU once.")
        chosen.append(match[0])
    return [replace(gpu, index=place) for place, gpu in enumerate(chosen)]


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
            raise UsageError(
                "GPUs were named for one model only.", f"Give both {argument('base_gpus')} and {argument('reasoning_gpus')}."
            )
        placement = Placement(
            _split(base, "base_gpus", n_gpus, replicas), _split(reasoning, "reasoning_gpus", n_gpus, replicas)
        )
        _check_sharing(placement)
        return placement
    if n_gpus < replicas:
        raise UsageError(
            f"{replicas} replicas of each model need at least {replicas} GPUs; {n_gpus} are visible.",
            f"Use {argument('replicas', n_gpus)} or fewer." if n_gpus else "Use one replica.",
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
            f"{argument(option, text=repr(named))} does not name different GPUs of the {n_gpus} that are visible.",
            f"Use indices from 0 to {n_gpus - 1}." if n_gpus else "No NVIDIA GPU is visible; leave the option out.",
        )
    if len(gpus) % replicas:
        raise UsageError(
            f"{argument(option, text=repr(named))} names {len(gpus)} GPUs for {replicas} replicas.",
            f"Name a multiple of {replicas} GPUs.",
        )
    size = len(gpus) // replicas
    return tuple(tuple(gpus[at : at + size]) for at in range(0, len(gpus), size))
