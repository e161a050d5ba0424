"""The endpoint over a server that holds both models."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from rrti_sgl.serving.fused import BothModels
from tests.api.checks import (
    PROGRAMS,
    check_clients_get_what_the_pair_generates,
    check_runs_through_it_are_those_of_the_pair,
)

pytestmark = pytest.mark.server


def test_clients_get_what_the_pair_generates(fused: BothModels, tmp_path: Path) -> None:
    check_clients_get_what_the_pair_generates((fused.url, fused.url), tmp_path)


@pytest.mark.parametrize("names", [["guided", "random"], pytest.param(PROGRAMS, marks=pytest.mark.slow)], ids=len)
def test_runs_through_it_are_those_of_the_pair(fused: BothModels, tmp_path: Path, names: Collection[str]) -> None:
    check_runs_through_it_are_those_of_the_pair((fused.url, fused.url), tmp_path, names)
