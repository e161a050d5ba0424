"""The command lines and environments of the servers that are to be started, and what is refused before the first."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from rrti_sgl.errors import PairMismatchError, UsageError
from rrti_sgl.serving import arrangement, router
from rrti_sgl.serving.arrangement import Arrangement, ServingOptions, arrange, check_tokenizers, flag_value
from rrti_sgl.serving.memory import Demand
from rrti_sgl.serving.router import Replicas, Router
from rrti_sgl.serving.server import Server, bundled_servers
from rrti_sgl.tinypair.bundle import bundled_pair
from tests.serving.models import QWEN3_06B, QWEN3_8B, gpus


@pytest.fixture
def models(tmp_path: Path) -> tuple[Server, Server]:
    return _servers(tmp_path, QWEN3_06B, QWEN3_8B)


def _servers(folder: Path, base: dict[str, Any], reasoning: dict[str, Any]) -> tuple[Server, Server]:
    for name, config in (("base", base), ("reasoning", reasoning)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps(config))
    return tuple(Server(str(folder / name), name, folder, device="cuda") for name in ("base", "reasoning"))  # type: ignore[return-value]


def servers(arranged: Arrangement) -> tuple[Server, Server]:
    base, reasoning = arranged.pair.base, arranged.pair.reasoning
    assert isinstance(base, Server)
    assert isinstance(reasoning, Server)
    return base, reasoning


def command(server: Server) -> dict[str, str]:
    line = server.command(on_cpu=False)
    return {flag: value for flag, value in zip(line, [*line[1:], ""], strict=True) if flag.startswith("--")}


@pytest.fixture
def with_router(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrangement, "check_router_installed", lambda: None)


def test_one_gpu_for_both(models: tuple[Server, Server]) -> None:
    arranged = arrange(*models, ServingOptions(device="cuda"), gpus(1))
    assert arranged.pair.in_turn
    base, reasoning = map(command, servers(arranged))
    assert (base["--mem-fraction-static"], reasoning["--mem-fraction-static"]) == ("0.308", "0.910")
    assert base["--max-total-tokens"] == reasoning["--max-total-tokens"] == "216794"
    assert "--context-length" not in base
    assert "--device" not in base
    assert [server.environment(False)["CUDA_VISIBLE_DEVICES"] for server in servers(arranged)] == ["GPU-0000"] * 2
    assert len(arranged.notes) == 2
    assert "GPU 0: " in arranged.notes[0]


def test_two_gpus(models: tuple[Server, Server]) -> None:
    options = ServingOptions(device="cuda", demand=Demand(8192, 32), base_gpus=[1], reasoning_gpus=[0], ports=(7001, 7002))
    arranged = arrange(*models, options, gpus(2))
    assert not arranged.pair.in_turn
    base, reasoning = servers(arranged)
    assert base.environment(False)["CUDA_VISIBLE_DEVICES"] == "GPU-1111"
    assert reasoning.environment(False)["CUDA_VISIBLE_DEVICES"] == "GPU-0000"
    assert "--mem-fraction-static" not in command(base)
    assert command(base)["--context-length"] == command(reasoning)["--context-length"] == "8192"
    assert command(reasoning)["--max-running-requests"] == "32"
    assert (command(base)["--port"], command(reasoning)["--port"]) == ("7001", "7002")


def test_flags_of_each_server_win(models: tuple[Server, Server]) -> None:
    options = ServingOptions(
        ["--kv-cache-dtype", "fp8_e5m2"], ["--chunked-prefill-size=4096", "--log-level", "debug"], device="cuda"
    )
    base, reasoning = servers(arrange(*models, options, gpus(1)))
    assert base.command(False)[-2:] == ["--kv-cache-dtype", "fp8_e5m2"]
    assert "--chunked-prefill-size" not in command(reasoning)
    assert reasoning.command(False)[-3:] == ["--chunked-prefill-size=4096", "--log-level", "debug"]
    assert int(command(base)["--max-total-tokens"]) > 216_794  # a smaller cache entry leaves room for more


def test_a_split_of_ones_own_is_left_alone(models: tuple[Server, Server]) -> None:
    options = ServingOptions(["--mem-fraction-static", "0.2"], ["--mem-fraction-static=0.7"], device="cuda")
    arranged = arrange(*models, options, gpus(1, gib=4))
    base, reasoning = servers(arranged)
    assert command(base)["--mem-fraction-static"] == "0.2"
    assert "--max-total-tokens" not in command(reasoning)
    assert arranged.pair.in_turn


def test_several_gpus_split_a_model(models: tuple[Server, Server]) -> None:
    options = ServingOptions(device="cuda", base_gpus=[0], reasoning_gpus=[1, 2])
    base, reasoning = servers(arrange(*models, options, gpus(3, gib=16)))
    assert command(reasoning)["--tp-size"] == "2"
    assert "--tp-size" not in command(base)
    assert reasoning.environment(False)["CUDA_VISIBLE_DEVICES"] == "GPU-1111,GPU-2222"
    options = ServingOptions([], ["--tp", "4"], device="cuda", base_gpus=[0], reasoning_gpus=[1, 2])
    with pytest.raises(UsageError, match="has 2 GPUs, but its flags ask for tensor parallelism over 4"):
        arrange(*models, options, gpus(3))


@pytest.mark.usefixtures("with_router")
def test_replicas(models: tuple[Server, Server]) -> None:
    arranged = arrange(*models, ServingOptions(device="cuda", replicas=2, ports=(7001, 0)), gpus(2))
    base = arranged.pair.base
    assert isinstance(base, Replicas)
    assert base.url == "http://127.0.0.1:7001"
    assert arranged.pair.in_turn
    assert [server.name for server in base.servers] == ["base-0", "base-1"]
    assert [server.gpus for server in base.servers] == [("GPU-0000",), ("GPU-1111",)]
    assert {server.log_path.name for server in base.servers} == {"base-0.log", "base-1.log"}
    assert len(arranged.notes) == 4


@pytest.mark.usefixtures("with_router")
def test_replicas_on_the_cpu(tmp_path: Path) -> None:
    arranged = arrange(*bundled_servers(tmp_path, device="cpu"), ServingOptions(device="cpu", replicas=3))
    assert isinstance(arranged.pair.base, Replicas)
    assert len(arranged.pair.base.servers) == 3
    assert {server.served_name for server in arranged.pair.base.servers} == {"bundled/base"}


def test_the_router_keeps_a_sample_on_its_server(tmp_path: Path) -> None:
    line = Router("base-router", tmp_path, ["http://127.0.0.1:1", "http://127.0.0.1:2"], 7000).command()
    assert line[:3] == [sys.executable, "-m", "rrti_sgl.serving.router"]
    assert line[line.index("--policy") + 1] == "manual"
    assert line[line.index("--worker-urls") + 1 :] == ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    assert line[line.index("--port") + 1] == "7000"


def test_no_router_no_replicas(models: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(router.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="SGLang's router, which is not installed") as caught:
        arrange(*models, ServingOptions(device="cuda", replicas=2), gpus(2))
    assert "sglang-router" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "n_gpus", "message"),
    [
        (ServingOptions(device="cuda"), 0, "No NVIDIA GPU"),
        (ServingOptions(device="cuda", replicas=0), 1, "replicas=0"),
        (ServingOptions(["--tp", "2"], device="cuda"), 2, "needs to know the GPUs"),
        (ServingOptions(["--tp", "two"], device="cuda"), 2, "'two'"),
        (ServingOptions(["--tp"], device="cuda"), 2, "''"),
        (ServingOptions([], ["--tp=\u00b2"], device="cuda", base_gpus=[0], reasoning_gpus=[1]), 2, "'\u00b2'"),
        (ServingOptions(device="cuda", ports=(7000, 7000)), 2, "base_port=7000 is the reasoning model's port, too"),
        (ServingOptions(device="cuda", demand=Demand(65536)), 1, "made for 32768"),
        (ServingOptions(device="cuda", demand=Demand(8192, 500)), 1, "too small"),
        (ServingOptions(device="cuda", demand=Demand(8192, 500)), 2, "too small"),
        (ServingOptions(device="cpu", base_gpus=[0], reasoning_gpus=[0]), 1, "on the CPU"),
        (ServingOptions(device="cpu", demand=Demand(65536)), 1, "made for 32768"),
    ],
)
def test_refused_before_the_first_server(
    options: ServingOptions, n_gpus: int, message: str, models: tuple[Server, Server]
) -> None:
    with pytest.raises(UsageError, match=message):
        arrange(*models, options, gpus(n_gpus))


def test_different_vocabularies_are_found_before_loading(tmp_path: Path) -> None:
    pair = _servers(tmp_path, QWEN3_06B, QWEN3_8B | {"vocab_size": 128256})
    with pytest.raises(PairMismatchError, match="151936 entries, the reasoning model's 128256"):
        arrange(*pair, ServingOptions(device="cuda"), gpus(1))


def test_different_tokenizers_are_found_before_loading(tmp_path: Path) -> None:
    import shutil

    base = bundled_pair().base
    other = tmp_path / "other"
    shutil.copytree(base, other)
    table = json.loads((other / "tokenizer.json").read_text())
    words = table["model"]["vocab"]
    first, second = [word for word in words if word.isalpha()][:2]
    words[first], words[second] = words[second], words[first]
    (other / "tokenizer.json").write_text(json.dumps(table))
    check_tokenizers(Server(str(base), "base", tmp_path), Server(str(base), "reasoning", tmp_path))
    with pytest.raises(PairMismatchError, match="2 of"):
        check_tokenizers(Server(str(base), "base", tmp_path), Server(str(other), "reasoning", tmp_path))
    named = Server(str(other), "reasoning", tmp_path, ["--tokenizer-path", str(base)])
    check_tokenizers(Server(str(base), "base", tmp_path), named)


def test_flag_values() -> None:
    flags = ["--tp", "2", "--dtype=half", "--flag", "--tp-size=4", "--last"]
    assert flag_value(flags, "--tp", "--tp-size") == "4"
    assert flag_value(flags, "--dtype") == "half"
    assert flag_value(flags, "--last") == ""
    assert flag_value(flags, "--other") is None
