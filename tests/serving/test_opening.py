"""Which servers a command starts for itself, and which for others."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.serving import arrangement
from rrti_sgl.serving.arrangement import ServingOptions
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.memory import Demand
from rrti_sgl.serving.opening import Watcher, open_pair
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
