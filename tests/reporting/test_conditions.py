"""What stands at the head of a report: when the runs were made, and on what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from rrti_sgl.db.store import Store
from rrti_sgl.programs.reporting.conditions import conditions
from rrti_sgl.programs.reporting.pages import markdown_page
from rrti_sgl.programs.reporting.report import make_report
from rrti_sgl.serving import hardware
from rrti_sgl.serving.gpus import Gpu
from tests.db.conftest import make_run

CPU = {"version": "0.5.23", "dtype": "float32", "attention_backend": "torch_native", "hardware": "EPYC, 2 cores"}
GPU = {"version": "0.5.23", "dtype": "bfloat16", "attention_backend": "fa3", "device": "cuda", "hardware": None}


def run(day: int, base: dict[str, Any], reasoning: dict[str, Any]) -> Any:
    made = datetime(2026, 5, day, tzinfo=UTC)
    return make_run(
        f"base-{day}", created_at=made, package_version="1", seed=0, base_server=base, reasoning_server=reasoning
    )


def test_servers_that_are_alike_are_told_once() -> None:
    [told] = conditions([run(1, CPU, CPU), run(3, CPU, CPU)])
    assert told == (
        "The runs were made from 2026-05-01 to 2026-05-03 by rrti-sgl 1, seed 0. Both servers: SGLang 0.5.23, torch not "
        "recorded, dtype float32, attention backend torch_native, on EPYC, 2 cores."
    )


def test_what_differs_and_what_is_not_known_is_told() -> None:
    seeded = {**GPU, "enable_deterministic_inference": True, "replicas": 2}
    told = conditions([run(1, CPU, CPU), run(2, GPU, seeded), run(4, {}, {})])
    assert told[0].startswith(
        "1 of the runs was made 2026-05-01 by rrti-sgl 1, seed 0. Both servers: SGLang 0.5.23, torch not"
    )
    assert told[1] == (
        "1 of the runs was made 2026-05-02 by rrti-sgl 1, seed 0. Base server: SGLang 0.5.23, torch not recorded, dtype "
        "bfloat16, attention backend fa3, on cuda. Reasoning server: SGLang 0.5.23, torch not recorded, dtype bfloat16, "
        "attention backend fa3, on cuda, 2 replicas, deterministic inference."
    )
    assert told[2] == "1 of the runs was made 2026-05-04 by rrti-sgl 1, seed 0. Both servers: nothing is recorded."


@pytest.mark.parametrize(("seeds", "said"), [((3, 1, 2), "seeds 1, 2, 3."), (range(20), "20 seeds from 0 to 19.")])
def test_seeds_are_named(seeds: Sequence[int], said: str) -> None:
    [told] = conditions([replace(run(1, CPU, CPU), seed=seed) for seed in seeds])
    assert f"by rrti-sgl 1, {said} Both" in told


@pytest.mark.usefixtures("drawn_once")
def test_a_report_says_it_before_its_first_table(tiny: Store) -> None:
    made = make_report(tiny)
    [told] = conditions(tiny.find_runs())
    assert told in made.conditions
    page = markdown_page(made)
    assert page.index("nothing is recorded") < page.index("|")


def test_the_hardware_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus = [Gpu(place, f"GPU-{place}", "H100", 80, 80) for place in range(2)]
    monkeypatch.setattr(hardware, "visible_gpus", lambda: gpus)
    assert hardware.hardware_of("http://localhost:1", "cuda") == "2 x H100"
    assert hardware.hardware_of("http://10.0.0.1:1", "cuda") is None  # another machine's
    told = hardware.hardware_of("http://127.0.0.1:1", "cpu")
    assert told is not None
    assert hardware.cpu_name() in told
    assert told.endswith(" cores")
