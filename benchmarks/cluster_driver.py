"""What the driver of a cluster does with a thousand pairs: leases a second, CPU and memory, with members that are not there.

The members answer after a time that is drawn, without Ray: what is measured is how leases are handed out, counted and given
again. Ray's own cost of a call comes on top and is the same for any driver.

    python benchmarks/cluster_driver.py [--pairs 1000] [--samples 64000]
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import time
from collections.abc import Sequence

from rrti_sgl.decoding.job import SampleJob
from rrti_sgl.programs.cluster.leases import Counted, LostError, share_out
from rrti_sgl.records import ProblemRecord

TOKENS = 4000
SECONDS_A_LEASE = 0.5
LOSSES = 0.01


class Fake:
    """A pair that answers after a while, and fails now and then."""

    def __init__(self, number: int) -> None:
        self.draws = random.Random(number)
        self.calls = 0

    async def ready(self) -> None:
        """At once."""

    async def work(self, jobs: Sequence[SampleJob]) -> list[Counted]:
        """Wait as long as decoding takes, on another scale."""
        self.calls += 1
        await asyncio.sleep(self.draws.expovariate(1 / SECONDS_A_LEASE))
        if self.draws.random() < LOSSES:
            raise LostError("The pair was lost.")
        return [Counted(job.sample_id, TOKENS, 100, True) for job in jobs]


async def run(pairs: int, samples: int) -> None:
    problem = ProblemRecord(problem_set="set", problem_id="p", question="q" * 400, answer="1")
    prompt = list(range(200))
    jobs = [SampleJob("run", problem, index, 0, "b" * 600, prompt, "r" * 600, prompt) for index in range(samples)]
    members, finished = [Fake(number) for number in range(pairs)], 0

    def count(found: Sequence[Counted]) -> None:
        nonlocal finished
        finished += len(found)

    async def durable() -> set[str]:
        return set()

    before = resource.getrusage(resource.RUSAGE_SELF)
    start = time.perf_counter()
    await share_out(jobs, members, most=16, twice=True, durable=durable, on_finished=count)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    leases = sum(member.calls for member in members)
    print(f"{pairs:,} pairs, {samples:,} samples in {leases:,} leases: {finished:,} finished")
    print(f"wall {wall:.1f} s, CPU {cpu:.1f} s: {leases / cpu:,.0f} leases and {samples / cpu:,.0f} samples a CPU second")
    print(f"most memory {after.ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=64_000)
    given = parser.parse_args()
    asyncio.run(run(given.pairs, given.samples))
