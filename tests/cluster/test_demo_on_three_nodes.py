"""The bundled experiment on three nodes with real servers, while an actor, a server, a node and the driver are killed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

pytest.importorskip("ray", reason="needs Ray: pip install 'rrti-sgl[ray]'")

from rrti_sgl.db import checking
from rrti_sgl.db.store import Store
from tests.cluster.test_cluster import found_by_workers as found_by_workers
from tests.cluster.test_cluster import nodes as nodes

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.timeout(3000)]
COMMAND = [sys.executable, "-m", "rrti_sgl.cli.main", "experiment", "demo", "--limit", "12", "--json"]


class Driver:
    """The command, seen by the parts that its pairs write."""

    def __init__(self, out: Path, *cluster: str) -> None:
        self.parts, self.log = out / "traces.parts", out.with_suffix(".log")
        self.seen: set[str] = set()
        command = [*COMMAND, "--out", str(out), *cluster]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)

    def until_written(self, *, by: int = 0) -> None:
        """Wait until there is another part, and there were some by so many pairs: the run is under way then."""
        before = len(self.seen)
        while len(self.seen) == before or len({name.rpartition("-")[0] for name in self.seen}) < by:
            assert self.process.poll() is None, self.log.read_text()
            self.seen |= {path.parent.name for path in self.parts.glob("*/[!.]*/manifest.json")}
            time.sleep(0.05)

    def finish(self) -> dict[str, Any]:
        """Wait for its end; returns what it printed."""
        output, _ = self.process.communicate()
        assert self.process.returncode == 0, self.log.read_text()
        [printed] = json.loads(output)
        return dict(printed)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


SERVER = "rrti_sgl.serving.launcher"


def of_node(node: Any, command: str) -> list[psutil.Process]:
    """The processes of a node whose command line has this."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    return [child for child in raylet.children(recursive=True) if command in " ".join(child.cmdline())]


@pytest.fixture
def none_left_behind() -> Iterator[None]:
    """No server is there afterwards that was not before."""

    def servers() -> set[int]:
        """Servers, and what they spawned: its processes are named anew."""
        found = psutil.process_iter(["cmdline"])
        return {each.pid for each in found if any(map(re.compile(f"{SERVER}$|sglang::").match, each.info["cmdline"] or ()))}

    before = servers()
    yield
    deadline = time.monotonic() + 60
    while left := servers() - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


# Everything that does not depend on ids of runs, times and batches: runs are numbered as they were begun.
NUMBERED = """
    WITH numbered AS (SELECT *, row_number() OVER (ORDER BY created_at) AS number FROM runs)
"""
PLACES = (
    NUMBERED
    + """
    SELECT number, program, status, temperature, seed, problem_id, sample_index,
        sample_id = left(sha256(concat_ws(chr(10), run_id, problem_id, sample_index)), 12) AS named_by_place
    FROM numbered JOIN samples USING (run_id) ORDER BY ALL
"""
)
GREEDY = (
    NUMBERED
    + """
    SELECT number, problem_id, text, answer, correct, samples.n_tokens, n_takeovers, n_changed, finish_reason,
        list(token_id ORDER BY position) AS ids, list(fired ORDER BY position) AS fired,
        list(score ORDER BY position) AS scores
    FROM numbered JOIN samples USING (run_id) JOIN tokens USING (run_id, sample_id)
    WHERE temperature = 0 GROUP BY ALL ORDER BY number, problem_id
"""
)


def numbers(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the greedy table, without ids."""
    [greedy] = [table for table in result["tables"] if table["title"].startswith("greedy")]
    return [{name: value for name, value in row.items() if name != "run_id"} for row in greedy["rows"]]


def test_the_greedy_table_is_that_of_one_machine(none_left_behind: None, tmp_path: Path, nodes: Any) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    alone = Driver(one).finish()
    machines = [nodes.add_node(num_cpus=1) for _ in range(3)]
    driver = Driver(many, "--ray", nodes.address)
    driver.until_written(by=3)
    of_node(machines[0], "ray::PairMember")[0].kill()
    driver.until_written()
    of_node(machines[1], SERVER)[0].kill()
    driver.until_written()
    nodes.remove_node(machines[2], allow_graceful=False)
    driver.until_written(by=4)  # of those that were started again
    driver.kill()
    shared = Driver(many, "--ray", nodes.address).finish()

    assert numbers(shared) == [pytest.approx(row, nan_ok=True) for row in numbers(alone)]
    assert not list((many / "traces.parts").iterdir())
    assert not checking.check(many / "traces.duckdb")
    with Store.open_readonly(one / "traces.duckdb") as first, Store.open_readonly(many / "traces.duckdb") as second:
        places, others = first.sql(PLACES).to_pylist(), second.sql(PLACES).to_pylist()
        assert places == others
        assert all(place["named_by_place"] and place["status"] == "finished" for place in places)
        for before, after in zip(first.sql(GREEDY).to_pylist(), second.sql(GREEDY).to_pylist(), strict=True):
            scores = (np.array(row.pop("scores"), float) for row in (before, after))
            np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4)
            assert before == after
        runs = second.sql("SELECT program, created_at, finished_at FROM runs ORDER BY created_at").to_pylist()
    calibration, *programs = runs  # first of all, by the whole cluster; then the programs
    assert calibration["program"] == "diagnose"
    assert all(run["created_at"] >= calibration["finished_at"] for run in programs)
