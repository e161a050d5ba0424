"""What is known of a run's requests before anything runs."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.grading.world import WorldDecisions
from rrti_sgl.programs.experiments.estimates import WHOLE_SOLUTIONS
from rrti_sgl.programs.program import GateContext, GateOptions
from rrti_sgl.programs.registry import PROGRAMS
from rrti_sgl.programs.stored.followed import Followed
from tests.db.conftest import make_run
from tests.toy_pair import toy_vocabulary


@pytest.mark.parametrize("name", PROGRAMS)
def test_solutions_that_are_one_request_are_those_that_nothing_interrupts(name: str) -> None:
    """The plan knows it by the program's name, before there is a calibration; decoding by the gate."""
    followed = Followed(make_run(), cast(Store, None), np.array([3, 2], np.int32), np.array([1, 0], np.int32))
    context = GateContext(None, WorldDecisions(), toy_vocabulary(), followed)
    gate = PROGRAMS[name].make_gate(GateOptions(tau=0.5, mean_length=40.0), context)
    assert gate.foregone == (name in WHOLE_SOLUTIONS)
