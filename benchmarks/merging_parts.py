"""What merging the parts of a cluster costs: seconds and memory by their number, by `rrti db attach` and by the driver.

    python benchmarks/merging_parts.py [--parts 200 800 2000] [--samples 50] [--tokens 20] [--every 0.1]

Parts go through the sink that the pairs of a cluster write with, and hold so many samples of so many synthetic tokens
(`benchmarks/store.py`). Each merge is a process of its own and begins without a store. The driver merges them twice: all of
them at the end, as after a driver that was killed, and while they come, one every so many seconds. Of both it is told
how long the pairs wait for it at the end of a run.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from store import bench_run, synthetic_sample

from rrti_sgl.db import attaching
from rrti_sgl.db.folders import Manifest
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.db.store import Store
from rrti_sgl.programs.cluster.leases import Counted
from rrti_sgl.programs.cluster.merging import SharedParts
from rrti_sgl.records import sample_key


async def write(folder: Path, n_parts: int, n_samples: int, n_tokens: int) -> None:
    """Write parts of one run; the tokens of each part are the same, the samples are not."""
    rng = np.random.default_rng(0)
    traces = [synthetic_sample(rng, index, n_tokens) for index in range(n_samples)]
    async with ParquetSink(folder, flush_rows=10**9, max_rows=10**9, flush_seconds=1e9) as sink:
        await sink.begin(bench_run())
        for part in range(n_parts):
            for place, trace in enumerate(traces, part * n_samples):
                named = replace(trace.sample, sample_id=sample_key("bench", "p", place), sample_index=place)
                await sink.put(replace(trace, sample=named))
            await sink.flush()


async def drive(parts: SharedParts, folder: Path, every: float) -> None:
    """What the driver does as parts come; all of them are there at once where `every` is 0."""
    written = sorted((folder / "written").iterdir())
    merged = asyncio.create_task(parts.keep_merging() if every else asyncio.sleep(1e9))
    for part in written:
        n_tokens = Manifest.read(part).n_tokens
        part.rename(folder / "bench" / part.name)
        parts.count([Counted("", n_tokens, 0, None)])
        await asyncio.sleep(every)
    start = time.perf_counter()
    merged.cancel()
    await asyncio.gather(merged, return_exceptions=True)
    await asyncio.to_thread(parts.merge)
    print(f"       {time.perf_counter() - start:8.1f} s after the last part", flush=True)


def merge(how: str, folder: Path, store: Path, every: float) -> None:
    """Merge a folder of parts, and say what it took."""
    start = time.perf_counter()
    if how == "attach":
        attaching.attach(store, [folder])
    else:
        with Store.open(store, parts=folder) as opened, SharedParts(folder, "bench", opened) as parts:
            asyncio.run(drive(parts, folder, every if how == "meanwhile" else 0))
    wall, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    print(f"{how:>6} {wall:8.1f} s, CPU {cpu:8.1f} s, {peak:6.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, nargs="+", default=[200, 800, 2000])
    parser.add_argument("--samples", type=int, default=50, help="of a part")
    parser.add_argument("--tokens", type=int, default=20, help="of a sample")
    parser.add_argument("--every", type=float, default=0.1, help="seconds between two parts")
    parser.add_argument("--merge", nargs=3, metavar=("HOW", "FOLDER", "STORE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.merge is not None:
        how, folder, store = given.merge
        merge(how, Path(folder), Path(store), given.every)
        return
    for n_parts in given.parts:
        place = Path(tempfile.mkdtemp())
        start = time.perf_counter()
        asyncio.run(write(place / "parts", n_parts, given.samples, given.tokens))
        counted = f"{n_parts * given.samples:,} samples, {n_parts * given.samples * given.tokens:,} tokens"
        print(f"{n_parts:,} parts, {counted}, written in {time.perf_counter() - start:.0f} s", flush=True)
        for how in ("attach", "driver", "meanwhile"):
            shared = place / how
            shutil.copytree(place / "parts", shared)
            if how != "attach":
                (shared / "bench").rename(shared / "written")
                (shared / "bench").mkdir()
            command = [
                sys.executable,
                __file__,
                "--every",
                str(given.every),
                "--merge",
                how,
                shared,
                place / f"{how}.duckdb",
            ]
            subprocess.run(command, check=True)
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
