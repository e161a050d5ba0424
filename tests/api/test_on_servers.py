"""The endpoint over two real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrti_sgl.serving.server import ServedPair
from tests.api.checks import check_clients_get_what_the_pair_generates, check_runs_through_it_are_those_of_the_pair

pytestmark = pytest.mark.server


def test_clients_get_what_the_pair_generates(served_pair: ServedPair, tmp_path: Path) -> None:
    check_clients_get_what_the_pair_generates((served_pair.base.url, served_pair.reasoning.url), tmp_path)


def test_runs_through_it_are_those_of_the_pair(served_pair: ServedPair, tmp_path: Path) -> None:
    check_runs_through_it_are_those_of_the_pair((served_pair.base.url, served_pair.reasoning.url), tmp_path)
