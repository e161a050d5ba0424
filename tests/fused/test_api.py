"""The endpoint over a server that holds both models."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrti_sgl.serving.fused import BothModels
from tests.api.checks import check_clients_get_what_the_pair_generates, check_runs_through_it_are_those_of_the_pair

pytestmark = pytest.mark.server


def test_clients_get_what_the_pair_generates(fused: BothModels, tmp_path: Path) -> None:
    check_clients_get_what_the_pair_generates((fused.url, fused.url), tmp_path)


def test_runs_through_it_are_those_of_the_pair(fused: BothModels, tmp_path: Path) -> None:
    check_runs_through_it_are_those_of_the_pair((fused.url, fused.url), tmp_path)
