"""Both models of the real-text pair on real servers, for the tests of this folder alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from natural_pair.pretrained import MissingError
from rrti_sgl.serving.server import ServedPair, Server
from tests.smollm2.models import SmolLM2Pair, smollm2_pair

# About 12,000 tokens of keys and values: one long context with room beside it, half a gigabyte a server.
FLAGS = ("--max-total-tokens", "12288", "--max-running-requests", "16")


@pytest.fixture(scope="package")
def folders() -> SmolLM2Pair:
    try:
        return smollm2_pair()
    except MissingError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="package")
def smollm2(folders: SmolLM2Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPair]:
    """A minute on two cores, and 30 s more where the models have to be made first."""
    logs = tmp_path_factory.mktemp("smollm2")
    with ServedPair(
        Server(str(folders.base), "base", logs, FLAGS, device="cpu"),
        Server(str(folders.reasoning), "reasoning", logs, FLAGS, device="cpu"),
    ) as pair:
        yield pair
