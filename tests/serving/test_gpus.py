"""Which GPUs there are, and which server gets which."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.serving import gpus
from rrti_sgl.serving.gpus import MIB, Placement, parse_gpus, place

CSV = """0, GPU-aaaa-1, NVIDIA H100 80GB HBM3, 81559, 81008
1, GPU-bbbb-2, NVIDIA L4, 23034, 1000
2, GPU-bbcc-3, NVIDIA L4, 23034, 22000
"""


def test_what_nvidia_smi_says() -> None:
    first, second, _ = parse_gpus(CSV, None)
    assert (first.index, first.uuid, first.name) == (0, "GPU-aaaa-1", "NVIDIA H100 80GB HBM3")
    assert (first.total_bytes, second.free_bytes) == (81559 * MIB, 1000 * MIB)


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
    found = parse_gpus(CSV, visible)
    assert [gpu.uuid for gpu in found] == uuids
    assert [gpu.index for gpu in found] == list(range(len(uuids)))


@pytest.mark.parametrize("visible", ["3", "GPU-bb", "MIG-1234", "GPU-"])
def test_what_is_no_whole_gpu_is_refused(visible: str) -> None:
    with pytest.raises(UsageError, match="CUDA_VISIBLE_DEVICES"):
        parse_gpus(CSV, visible)


def test_no_driver_means_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.visible_gpus() == []


def test_the_driver_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "nvidia-smi"
        assert "memory.free" in command[1]
        return subprocess.CompletedProcess(command, 0, CSV, "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu.uuid for gpu in gpus.visible_gpus()] == ["GPU-bbbb-2"]


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
        (lambda: place(2, base=[0], reasoning=[2]), "--reasoning-gpu '2'"),
        (lambda: place(2, base=[0, 0], reasoning=[1]), "--base-gpu '0,0'"),
        (lambda: place(4, replicas=2, base=[0, 1, 2], reasoning=[3, 2]), "3 GPUs for 2 replicas"),
        (lambda: place(2, base=[0], reasoning=[0, 1]), "GPU 0 is to be shared"),
        (lambda: place(2, replicas=2, base=[0, 1], reasoning=[1, 0]), "GPU 0 is to be shared"),
    ],
)
def test_places_that_cannot_be(placed: Callable[[], Placement], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        placed()
