"""Which GPUs there are, and which server gets which."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pynvml
import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.serving.gpus import MIB, Gpu, Placement, choose, place, visible_gpus

FOUND = [
    Gpu(0, "GPU-aaaa-1", "NVIDIA H100 80GB HBM3", 81559 * MIB, 81008 * MIB),
    Gpu(1, "GPU-bbbb-2", "NVIDIA L4", 23034 * MIB, 1000 * MIB),
    Gpu(2, "GPU-bbcc-3", "NVIDIA L4", 23034 * MIB, 22000 * MIB),
]


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A driver with the GPUs of `FOUND`; the list says what was asked of it besides them."""
    asked: list[str] = []
    answers = {
        "nvmlInit": lambda: asked.append("init"),
        "nvmlShutdown": lambda: asked.append("shutdown"),
        "nvmlDeviceGetCount": lambda: len(FOUND),
        "nvmlDeviceGetHandleByIndex": lambda index: FOUND[index],
        "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
        "nvmlDeviceGetName": lambda gpu: gpu.name,
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=gpu.total_bytes, free=gpu.free_bytes),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return asked


def test_what_the_driver_says(driver: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert visible_gpus() == FOUND
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.uuid for gpu in visible_gpus()] == ["GPU-bbbb-2"]
    assert driver == ["init", "shutdown"] * 2


@pytest.mark.parametrize(
    ("visible", "uuids"),
    [
        ("2,0", ["GPU-bbcc-3", "GPU-aaaa-1"]),
        ("GPU-bbbb", ["GPU-bbbb-2"]),
        ("", []),
        ("GPU-bbcc-3, 1", ["GPU-bbcc-3", "GPU-bbbb-2"]),
    ],
)
def test_visible_devices_choose_and_order(visible: str, uuids: list[str]) -> None:
    found = choose(FOUND, visible)
    assert [gpu.uuid for gpu in found] == uuids
    assert [gpu.index for gpu in found] == list(range(len(uuids)))


@pytest.mark.parametrize("visible", ["3", "GPU-bb", "MIG-1234", "GPU-", "0,1,0"])
def test_what_is_no_whole_gpu_is_refused(visible: str) -> None:
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES"):
        choose(FOUND, visible)


def failing(code: int) -> Callable[[], None]:
    def init() -> None:
        raise pynvml.NVMLError(code)

    return init


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_no_driver_means_no_gpu(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", failing(code))
    assert visible_gpus() == []


def test_a_driver_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlInit", failing(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH))
    with pytest.raises(UsageError, match=r"does not answer \(RM has detected an NVML/RM version mismatch"):
        visible_gpus()


def test_a_gpu_that_does_not_answer_is_no_missing_gpu(driver: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(gpu: Gpu) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lost)
    with pytest.raises(UsageError, match=r"does not answer \(GPU is lost"):
        visible_gpus()
    assert driver == ["init", "shutdown"]


@pytest.mark.parametrize(
    ("placed", "base", "reasoning", "shared"),
    [
        (lambda: place(1), [[0]], [[0]], True),
        (lambda: place(2), [[0]], [[1]], False),
        (lambda: place(2, replicas=2), [[0], [1]], [[0], [1]], True),
        (lambda: place(5, replicas=2), [[0], [1]], [[2], [3]], False),
        (lambda: place(2, base=[1], reasoning=[1]), [[1]], [[1]], True),
        (lambda: place(4, base=[0], reasoning=[1, 2]), [[0]], [[1, 2]], False),
        (lambda: place(4, replicas=2, base=[0, 1], reasoning=[3, 2]), [[0], [1]], [[3], [2]], False),
    ],
)
def test_places(placed: Callable[[], Placement], base: list[list[int]], reasoning: list[list[int]], shared: bool) -> None:
    placement = placed()
    assert [list(on) for on in placement.base] == base
    assert [list(on) for on in placement.reasoning] == reasoning
    assert placement.shared is shared


@pytest.mark.parametrize(
    ("placed", "message"),
    [
        (lambda: place(1, replicas=2), "need at least 2 GPUs; 1 are visible"),
        (lambda: place(2, base=[0]), "one model only"),
        (lambda: place(2, base=[0], reasoning=[2]), "reasoning_gpus='2'"),
        (lambda: place(2, base=[0, 0], reasoning=[1]), "base_gpus='0,0'"),
        (lambda: place(4, replicas=2, base=[0, 1, 2], reasoning=[3, 2]), "3 GPUs for 2 replicas"),
        (lambda: place(2, base=[0], reasoning=[0, 1]), "GPU 0 is to be shared"),
        (lambda: place(2, replicas=2, base=[0, 1], reasoning=[1, 0]), "GPU 0 is to be shared"),
    ],
)
def test_places_that_cannot_be(placed: Callable[[], Placement], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        placed()
