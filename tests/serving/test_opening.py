"""Which servers a command starts for itself, and which for others."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.serving import arrangement, router
from rrti_sgl.serving.arrangement import ServingOptions
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.memory import Demand
from rrti_sgl.serving.opening import Watcher, open_pair
from rrti_sgl.serving.router import Replicas
from rrti_sgl.serving.server import TOKEN_IDS_ONLY
from tests.serving.models import gpus


class Arranged(Exception):  # noqa: N818  # no error: it ends the call where servers would start
    """What was to be arranged."""


@pytest.fixture
def arranged(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(base: Any, reasoning: Any, options: ServingOptions) -> None:
        raise Arranged(list(options.base_flags), list(options.reasoning_flags))

    monkeypatch.setattr(arrangement, "arrange", stop)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [*TOKEN_IDS_ONLY, "--tp", "2"]),
        ({"text": True}, ["--tp", "2"]),
        ({"options": ServingOptions(replicas=2)}, ["--tp", "2"]),
        ({"options": ServingOptions(base_flags=["--x"], reasoning_flags=["--x"])}, [*TOKEN_IDS_ONLY, "--tp", "2", "--x"]),
    ],
)
@pytest.mark.usefixtures("arranged")
def test_servers_of_a_command_take_token_ids_alone(given: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(Arranged) as stopped, open_pair(None, None, None, None, "--tp 2", **given):
        pass
    assert stopped.value.args == (expected, expected)


def test_one_server_for_both_models_on_a_gpu_has_its_plan_and_says_that_it_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: BothModels) -> None:
        raise Arranged(self.command(on_cpu=False), self.gpus)

    monkeypatch.setattr(BothModels, "start", start)
    monkeypatch.setattr("rrti_sgl.serving.fused.visible_gpus", lambda: gpus(2))
    notes: list[str] = []
    options = ServingOptions(device="cuda", demand=Demand(256, 16), draft_tokens=4)
    opened = open_pair(
        None, None, None, None, "--attention-backend fa3", options=options, fused=True, watcher=Watcher(note=notes.append)
    )
    with pytest.raises(Arranged) as stopped, opened:
        pass
    command, on = stopped.value.args
    values = dict(itertools.pairwise(command))
    assert on == (gpus(1)[0].uuid,)
    assert {"--disable-cuda-graph", "--disable-overlap-schedule"} <= set(command)
    assert command.count("--attention-backend") == 1
    assert {name: values[name] for name in ("--attention-backend", "--page-size", "--max-running-requests")} == {
        "--attention-backend": "fa3", "--page-size": "1", "--max-running-requests": "16",
    }  # fmt: skip
    assert int(values["--max-total-tokens"]) >= 16 * 256
    assert values["--speculative-num-draft-tokens"] == "4"
    assert "base" in notes[0]
    assert "has not run on one yet" in notes[-1]


def test_replicas_of_both_models_have_a_gpu_each_behind_a_router(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[BothModels] = []

    def start(self: BothModels) -> None:
        started.append(self)

    def is_ready(self: Replicas) -> bool:
        raise Arranged(self)

    monkeypatch.setattr(BothModels, "start", start)
    monkeypatch.setattr(Replicas, "is_ready", is_ready)
    monkeypatch.setattr("rrti_sgl.serving.fused.visible_gpus", lambda: gpus(3))
    monkeypatch.setattr(arrangement, "check_router_installed", lambda: None)
    monkeypatch.setattr(router, "check_router_installed", lambda: None)
    notes: list[str] = []
    options = ServingOptions(device="cuda", replicas=2, ports=(0, 7002), steering={"tau": 0.5})
    opened = open_pair(None, None, None, None, options=options, fused=True, watcher=Watcher(note=notes.append))
    with pytest.raises(Arranged) as stopped, opened:
        pass
    [replicas] = stopped.value.args
    assert (replicas.name, replicas.port, list(replicas.servers)) == ("fused", 7002, started)
    assert [(server.name, server.gpus) for server in started] == [
        ("fused-0", (gpus(3)[0].uuid,)), ("fused-1", (gpus(3)[1].uuid,)),
    ]  # fmt: skip
    assert [(server.steering, server.key) for server in started] == [({"tau": 0.5}, started[0].key)] * 2
    assert set(TOKEN_IDS_ONLY) <= set(started[1].flags)
    assert [note.partition(":")[0] for note in notes[:-1]] == ["GPU 0", "GPU 1"]

    for n, ports, message in (
        (4, (0, 0), "4 servers for both models need a GPU each; 3 are visible"),
        (0, (0, 0), "replicas=0 is below 1"),
        (2, (7001, 0), "has one port. Name it by reasoning_port="),
    ):
        options = ServingOptions(device="cuda", replicas=n, ports=ports)
        refused = open_pair(None, None, None, None, options=options, fused=True)
        with pytest.raises(UsageError, match=message), refused:
            pass


def test_flags_that_size_one_cache_alone_are_told_what_comes_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BothModels, "start", lambda self: (_ for _ in ()).throw(Arranged()))
    monkeypatch.setattr("rrti_sgl.serving.fused.visible_gpus", lambda: gpus(1))
    for flags, told in (("--mem-fraction-static 0.7", True), ("--mem-fraction-static 0.7 --max-total-tokens 9000", False)):
        notes: list[str] = []
        watcher = Watcher(note=notes.append)
        opened = open_pair(None, None, None, None, flags, options=ServingOptions(device="cuda"), fused=True, watcher=watcher)
        with pytest.raises(Arranged), opened:
            pass
        assert [note for note in notes if "beside it" in note and "--max-total-tokens" in note] == notes[:-1]
        assert len(notes) == 1 + told


def test_without_a_gpu_there_is_no_plan_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rrti_sgl.serving.fused.visible_gpus", list)
    opened = open_pair(None, None, None, None, options=ServingOptions(device="cuda"), fused=True)
    with pytest.raises(UsageError, match="No NVIDIA GPU"), opened:
        pass
    options = ServingOptions(device="cuda")
    with (
        pytest.raises(UsageError, match="triton and fa3, not flashinfer"),
        open_pair(None, None, None, None, "--attention-backend flashinfer", options=options, fused=True),
    ):
        pass
