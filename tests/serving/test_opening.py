"""Which servers a command starts for itself, and which for others."""

from __future__ import annotations

from typing import Any

import pytest

from rrti_sgl.serving import arrangement
from rrti_sgl.serving.arrangement import ServingOptions
from rrti_sgl.serving.opening import open_pair
from rrti_sgl.serving.server import TOKEN_IDS_ONLY


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
