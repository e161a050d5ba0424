"""What the ids of top-k lists cost in a Parquet file, by encoding: bytes a token, seconds to write and to read.

    python benchmarks/list_encodings.py [--tokens 245760]

Lists come from contexts that recur (Zipf's law over contexts), each with its own candidates of a vocabulary of 151,936
(Zipf's law over ids) and logits; a position adds noise to them, so that candidates of a context change places at the end of
the list. A mass of 0.999 keeps the shortest beginning of a list that holds this share; it is lossy. BYTE_STREAM_SPLIT is not
among the encodings: DuckDB reads it for floats alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

VOCABULARY, CANDIDATES, CONTEXTS, K = 151_936, 32, 20_000, 20


def lists(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    """(n, K) ids, most probable first, and their probabilities."""
    ids = np.exp(rng.random((CONTEXTS, CANDIDATES)) * np.log(VOCABULARY)).astype(np.int32) - 1
    ids += np.arange(CANDIDATES, dtype=np.int32)[None] * (ids < VOCABULARY - CANDIDATES)
    gaps = rng.exponential(1.0, (CONTEXTS, CANDIDATES - 1)) * (1.2 / np.sqrt(np.arange(1, CANDIDATES)))
    gaps[:, 0] = np.where(rng.random(CONTEXTS) < 0.7, rng.gamma(3.0, 2.2, CONTEXTS), rng.exponential(0.8, CONTEXTS))
    logits = np.concatenate([np.zeros((CONTEXTS, 1)), -np.cumsum(gaps, axis=1)], axis=1)
    context = (np.exp(rng.random(n) * np.log(CONTEXTS))).astype(np.int64) - 1
    noisy = logits[context] + rng.normal(0.0, 0.5, (n, CANDIDATES))
    order = np.argsort(-noisy, axis=1, kind="stable")[:, :K]
    shares = np.exp(noisy) / np.exp(noisy).sum(axis=1, keepdims=True)
    return np.take_along_axis(ids[context], order, axis=1), np.take_along_axis(shares, order, axis=1)


def by_frequency(ids: Any) -> Any:
    """Ids as places in the vocabulary of the run, the most frequent first."""
    known, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    place = np.empty(len(known), dtype=np.int32)
    place[np.argsort(-counts, kind="stable")] = np.arange(len(known), dtype=np.int32)
    return place[inverse].reshape(ids.shape)


def measure(name: str, ids: Any, kept: Any, n: int, folder: Path, **options: Any) -> str:
    """A row of the table; the fastest of three."""
    offsets = pa.array(np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32))
    table = pa.table({"ids": pa.ListArray.from_arrays(offsets, pa.array(ids[kept]))})
    path = folder / "ids.parquet"
    written, read = [], []
    for _ in range(3):
        start = time.process_time()
        pq.write_table(table, path, row_group_size=122_880, compression="zstd", **({"use_dictionary": False} | options))
        written.append(time.process_time() - start)
        start = time.process_time()
        duckdb.sql(f"SELECT sum(list_sum(ids)) FROM '{path}'").fetchall()
        read.append(time.process_time() - start)
    size = path.stat().st_size / n
    return f"| {name} | {size:.1f} | {min(written) / n * 1e6:.2f} | {min(read) / n * 1e6:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=245_760)
    n = parser.parse_args().tokens
    ids, shares = lists(np.random.default_rng(0), n)
    every = np.ones(ids.shape, dtype=bool)
    mass = np.cumsum(shares, axis=1) - shares < 0.999
    ranks, ordered = by_frequency(ids), np.sort(ids, axis=1)
    delta = {"column_encoding": "DELTA_BINARY_PACKED"}
    print("| ids of one list of 20 | bytes a token | CPU us a token: written | read |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for level in (9, 19):
            print(measure(f"plain, zstd {level}", ids, every, n, folder, compression_level=level))
        for title, values, options in (
            ("dictionary", ids, {"use_dictionary": True}), ("DELTA_BINARY_PACKED", ids, delta),
            ("by frequency, plain", ranks, {}), ("by frequency, dictionary", ranks, {"use_dictionary": True}),
            ("sorted, DELTA_BINARY_PACKED (order not kept)", ordered, delta),
        ):  # fmt: skip
            print(measure(f"{title}, zstd 9", values, every, n, folder, compression_level=9, **options))
        print(measure("mass 0.999, plain, zstd 9", ids, mass, n, folder, compression_level=9))
        print(measure("mass 0.999, by frequency, plain, zstd 9", ranks, mass, n, folder, compression_level=9))
    print(f"\nIds kept at a mass of 0.999: {mass.sum() / n:.1f} of {K}.")


if __name__ == "__main__":
    main()
