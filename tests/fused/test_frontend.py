"""Programs in SGLang's language on a fused server: forks and stop strings as on two servers, `select` refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.frontend import InterventionBackend
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.server import ServedPair
from tests.frontend.conftest import guided
from tests.frontend.test_programs import tip_suggestion, two_steps

import sglang as sgl  # isort: skip  # after rrti_sgl.programs.frontend, which makes it importable on a machine without a GPU

pytestmark = pytest.mark.server
QUESTION = "ann has 2 8 . bea finds 9 . she doubles . how many has ann ?"


def texts(urls: tuple[str, str]) -> list[str]:
    with InterventionBackend(*urls, guided(), k=0) as backend:
        states = [
            tip_suggestion.run(question=QUESTION, backend=backend),
            two_steps.run(question=QUESTION, stop=" =", backend=backend),
        ]
        return [state.text() for state in states]


def test_programs_write_what_they_write_on_two_servers(served_pair: ServedPair, fused: BothModels) -> None:
    one, two = texts((fused.url, fused.url)), texts((served_pair.base.url, served_pair.reasoning.url))
    assert one == two


def test_select_says_that_it_needs_two_servers(fused: BothModels) -> None:
    @sgl.function
    def choose(s: Any) -> None:
        s += QUESTION
        s += sgl.select("answer", choices=[" first", " then"])

    with InterventionBackend(fused.url, fused.url, guided(), k=0) as backend:
        state = choose.run(backend=backend)
        with pytest.raises(UsageError, match="answers for the guided model alone"):
            raise state.error() or AssertionError("nothing was refused")
