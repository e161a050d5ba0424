"""A writer that is killed between two puts: what was flushed is there, and nothing is there by half."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest

from tests.db.conftest import make_problem, make_run, make_trace
from tests.sinks.keepers import InFile, InParts, assert_same

WRITE_FOREVER = """
import asyncio, itertools, sys
from pathlib import Path
from tests.db.conftest import make_problem, make_run
from tests.sinks.keepers import InFile, InParts
from tests.sinks.test_killed import numbered

async def main(keeper, share):
    sink = keeper.open(flush_rows=500)
    await sink.add_problems([make_problem()])
    await sink.begin(make_run(), resume=True)
    for number in itertools.count(share, 2):
        await sink.put(numbered(number))
        if number % 6 == share:
            await sink.flush()
            print(number, flush=True)

asyncio.run(main({"file": InFile, "parts": InParts}[sys.argv[1]](Path(sys.argv[2])), int(sys.argv[3])))
"""


def numbered(number: int):
    ce = [value / 7 for value in range(1 + number % 200)]
    return make_trace(index=number, ce=ce, tokens={"fired": [value > 0.5 for value in ce]})


async def begin(keeper) -> frozenset[str]:
    async with keeper.open() as sink:
        await sink.begin(make_run())
    return frozenset()


async def resume(keeper) -> frozenset[str]:
    async with keeper.open() as sink:
        found = await sink.begin(make_run(), resume=True)
        await sink.end("r1", "finished")
    return found


@pytest.mark.parametrize(("kind", "writers"), [("file", 1), ("parts", 2)])
@pytest.mark.parametrize("flushes", [1, 6])
def test_what_was_flushed_is_there_whole(tmp_path, kind, writers, flushes):
    path = tmp_path / "traces"
    keeper = InFile(path) if kind == "file" else InParts(path)
    asyncio.run(begin(keeper))
    keeper.let_go()
    command = [sys.executable, "-c", WRITE_FOREVER, kind, str(path)]
    processes = [subprocess.Popen([*command, str(share)], stdout=subprocess.PIPE, text=True) for share in range(writers)]
    flushed = set()
    for share, process in enumerate(processes):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(flushes)]
        process.send_signal(signal.SIGKILL)
        # Lines that were on their way when the signal came were flushed as well.
        lines += [line for line in process.stdout if line.endswith("\n")]
        flushed |= set(range(share, int(lines[-1]) + 1, 2))
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    found = keeper.read().samples
    keeper.let_go()
    numbers = {trace.sample.sample_index for trace in found.values()}
    assert flushed <= numbers
    assert len(flushed) >= 3 * (flushes - 1) * writers + writers
    for number in numbers:
        expected = numbered(number)
        assert_same(found[expected.sample.sample_id], expected)
    assert asyncio.run(resume(keeper)) == found.keys()
    kept = keeper.read()
    assert kept.samples.keys() == found.keys()
    assert kept.problems == [make_problem()]
    assert kept.runs["r1"].status == "finished"
