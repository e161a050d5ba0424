"""What the trace store costs: rows a second into it, and bytes a token, column by column.

    python benchmarks/store.py [--tokens 245760] [--demo demo/traces.duckdb]

Rows go from decoded records (numpy columns of whole samples) through a sink to durable rows. The synthetic tokens
have a vocabulary of 151,936: two lists of 20 whose ids are drawn from a Zipf law, peaked distributions (about half of the
tokens above a probability of 0.95), and a reasoning model whose list is nearly the base's (18 of 20 ids). In text, contexts
recur: recurring tokens draw one of 20,000 contexts by Zipf's law, each with its own candidates and logits, to which noise is
added; once more their lists end at 99.9 % of the mass. Bytes are those of the file's blocks after a checkpoint, and of the
Parquet files of the sealed run, of which every list is read. The rows are left in build/bench.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from rrti_sgl.db import attaching, relations, sealing
from rrti_sgl.db.sinks.duckdb_file import DuckDBSink
from rrti_sgl.db.sinks.parquet_parts import ParquetSink
from rrti_sgl.db.store import Store
from rrti_sgl.db.upgrading import upgrade_file
from rrti_sgl.records import RunRecord, SampleRecord, SampleTrace, TokenColumns, sample_key
from rrti_sgl.science.distributions import Distributions
from rrti_sgl.science.metrics import all_metrics
from rrti_sgl.science.threshold import ThresholdRule, replay
from rrti_sgl.sinks.sink import Sink

OUT = Path(__file__).resolve().parents[1] / "build" / "bench.json"
VOCABULARY, K, CANDIDATES = 151_936, 20, 64
TAU, MASS, CONTEXTS = 1.0, 0.999, 20_000
Contexts = tuple[Any, Any]  # candidates (CONTEXTS, CANDIDATES) and their logits


def candidate_ids(rng: np.random.Generator, n: int) -> Any:
    """(n, CANDIDATES) distinct ids a row, by Zipf's law with exponent 1."""
    drawn = np.exp(rng.random((n, 2 * CANDIDATES)) * np.log(VOCABULARY)).astype(np.int32) - 1
    ordered = np.sort(drawn, axis=1)
    repeated = np.concatenate([np.zeros((n, 1), bool), ordered[:, 1:] == ordered[:, :-1]], axis=1)
    key = np.where(repeated, 2.0, rng.random(drawn.shape))  # shuffled, repeated ones last
    return np.take_along_axis(ordered, np.argsort(key, axis=1)[:, :CANDIDATES], axis=1)


def drawn_logits(rng: np.random.Generator, n: int) -> Any:
    """(n, CANDIDATES) of a base model, the largest first."""
    first = np.where(rng.random(n) < 0.7, rng.gamma(3.0, 2.2, n), rng.exponential(0.8, n))
    gaps = rng.exponential(1.0, (n, CANDIDATES - 1)) * (1.2 / np.sqrt(np.arange(1, CANDIDATES)))
    gaps[:, 0] = first
    return np.concatenate([np.zeros((n, 1)), -np.cumsum(gaps, axis=1)], axis=1)


def distributions(rng: np.random.Generator, n: int, known: Contexts | None) -> tuple[Distributions, Distributions]:
    """Top-20 lists of a base and a reasoning model at n positions, anew or in contexts that recur."""
    if known is None:
        ids, base = candidate_ids(rng, n), drawn_logits(rng, n)
    else:
        context = np.exp(rng.random(n) * np.log(CONTEXTS)).astype(np.int64) - 1
        ids, base = known[0][context], known[1][context] + rng.normal(0.0, 0.5, (n, CANDIDATES))
    reasoning = base + rng.normal(0.0, 1.1, base.shape)
    apart = rng.random(n) < 0.05
    reasoning[apart, 1] += base[apart, 0] - base[apart, 1]
    made = []
    for logits in (base, reasoning):
        total = np.exp(logits).sum(axis=1) + 10.0 * np.exp(logits.min(axis=1))
        logprobs = (logits - np.log(total)[:, None]).astype(np.float32)
        order = np.argsort(-logprobs, axis=1, kind="stable")[:, :K]
        columns = np.take_along_axis(ids, order, axis=1), np.take_along_axis(logprobs, order, axis=1)
        made.append(Distributions(*columns, VOCABULARY))
    return made[0], made[1]


def synthetic_sample(
    rng: np.random.Generator, index: int, n: int, known: Contexts | None = None, mass: float = 1.0
) -> SampleTrace:
    """One sample of n tokens as decoding hands it over."""
    base, reasoning = distributions(rng, n, known)
    metrics = all_metrics(base, reasoning)
    fired, local_mean = replay(metrics["ce"], ThresholdRule(TAU))
    emitted = np.where(fired, reasoning.ids[:, 0], base.ids[:, 0]).astype(np.int32)
    words = [f"w{number}" for number in emitted]
    drawn = [f"w{number}" for number in base.ids[:, 0]]
    columns = TokenColumns(
        token_id=emitted,
        token_text=words,
        source=["reasoning" if flag else "base" for flag in fired],
        base_token_id=base.ids[:, 0],
        base_token_text=drawn,
        reasoning_token_id=np.where(fired, reasoning.ids[:, 0], -1).astype(np.int32),
        base_logprob=base.logprob_of(emitted),
        reasoning_logprob=reasoning.logprob_of(emitted),
        score=metrics["ce"],
        local_mean=local_mean,
        fired=fired,
        metrics=metrics,
        base_tail_mass=base.tail_mass,
        reasoning_tail_mass=reasoning.tail_mass,
        planning_tag=["plan" if number % 50 == 0 else None for number in emitted],
        planted=np.full(n, -1, dtype=np.int32),
        base_topk_ids=np.where(base.within(mass), base.ids, -1),
        base_topk_logprobs=np.where(base.within(mass), base.logprobs, np.nan),
        reasoning_topk_ids=np.where(reasoning.within(mass), reasoning.ids, -1),
        reasoning_topk_logprobs=np.where(reasoning.within(mass), reasoning.logprobs, np.nan),
    )
    changed = fired & (emitted != base.ids[:, 0])
    return SampleTrace(synthetic_record(index, n, int(fired.sum()), int(changed.sum()), words), columns, "ce")


def synthetic_record(index: int, n: int, takeovers: int, changed: int, words: list[str]) -> SampleRecord:
    return SampleRecord(
        run_id="bench",
        sample_id=sample_key("bench", "p", index),
        problem_id="p",
        sample_index=index,
        base_prompt="Q: " + "x" * 200,
        reasoning_prompt="Q: " + "x" * 200,
        text=" ".join(words),
        n_tokens=n,
        n_takeovers=takeovers,
        n_changed=changed,
        finish_reason="length",
        answer=None,
        correct=None,
        started_at=datetime.now(UTC),
        wall_ms=1.0,
        base_calls=1,
        reasoning_calls=1,
        base_ms=1.0,
        reasoning_ms=1.0,
        base_prompt_tokens=100,
        base_cached_tokens=0,
        reasoning_prompt_tokens=100,
        reasoning_cached_tokens=0,
        tokens_drafted=n,
        tokens_discarded=0,
        tokens_scored=n,
    )


def bench_run() -> RunRecord:
    return RunRecord(
        run_id="bench", program="guided", status="finished", created_at=datetime.now(UTC), config={}, config_hash="",
        base_model="base", reasoning_model="reasoning", tokenizer_hash="", vocab_size=VOCABULARY, problem_set="bench",
        n_problems=1, samples_per_problem=1, k=K, score_kind="topk", metric="ce", gate="threshold", gate_params={}, tau=TAU,
        lambda_=None, window=16, warmup="tau", calibration_id=None, tagger="", grader="", temperature=0.0, top_p=1.0,
        max_new_tokens=1, seed=0, package_version="", base_server={}, reasoning_server={},
    )  # fmt: skip


def demo_samples(path: Path, k: int) -> tuple[list[SampleTrace], float]:
    """The samples of the guided and diagnosing runs of a store, lists cut to k, and those runs' wall time in s."""
    copy = Path(tempfile.mkdtemp()) / "copy.duckdb"
    shutil.copy(path, copy)
    upgrade_file(copy)
    with Store.open(copy) as store:
        query = "SELECT sample_id FROM sample_view WHERE program IN ('guided', 'diagnose') ORDER BY ALL"
        wall = "SELECT sum(epoch(finished_at - created_at)) AS s FROM runs WHERE program IN ('guided', 'diagnose')"
        wall_s = float(store.sql(wall).column(0)[0].as_py())
        traces = [store.load_sample(name) for name in store.sql(query).column(0).to_pylist()]
    shutil.rmtree(copy.parent)
    names = [f"{model}_topk_{part}" for model in ("base", "reasoning") for part in ("ids", "logprobs")]

    def cut(trace: SampleTrace) -> SampleTrace:
        lists = {name: getattr(trace.tokens, name)[:, :k] for name in names}
        return replace(trace, sample=replace(trace.sample, run_id="bench"), tokens=replace(trace.tokens, **lists))

    return [cut(trace) for trace in traces], wall_s


async def ingest(sink: Sink, traces: list[SampleTrace]) -> tuple[float, float]:
    """Seconds and CPU seconds from the first sample put to all of them durable."""
    async with sink:
        await sink.begin(bench_run())
        start, cpu = time.perf_counter(), time.process_time()
        for trace in traces:
            await sink.put(trace)
        await sink.flush()
        return time.perf_counter() - start, time.process_time() - cpu


def measure(
    name: str, traces: list[SampleTrace], precision: Any, rows: int, repetitions: int, wall_s: float | None
) -> dict[str, Any]:
    """Write the samples into a fresh store, then seal it; the fastest of the repetitions, bytes of the last."""
    n = sum(trace.sample.n_tokens for trace in traces)
    best = {"write": np.inf, "cpu": np.inf, "close": np.inf}
    folder = Path(tempfile.mkdtemp())
    path = folder / "x.duckdb"
    for _ in range(repetitions):
        shutil.rmtree(folder)
        folder.mkdir()
        with Store.open(path, precision=precision) as store:
            wall, cpu = asyncio.run(ingest(DuckDBSink(store, flush_rows=rows, max_rows=2 * rows), traces))
            best["write"], best["cpu"] = min(best["write"], wall), min(best["cpu"], cpu)
            start = time.perf_counter()
        best["close"] = min(best["close"], time.perf_counter() - start)
    columns = database_bytes(path, f"{precision}_tokens", n)
    sealing.seal(path, "bench")
    parquet = parquet_bytes(relations.file_of(relations.runs_folder(path) / "bench", f"{precision}_tokens"), n)
    lists = [f"sum(list_sum({side}_topk_{part}))" for side in ("base", "reasoning") for part in ("ids", "logprobs")]
    with Store.open_readonly(path) as store:
        cpu = time.process_time()
        store.sql(f"SELECT {', '.join(lists)} FROM tokens")
        read = time.process_time() - cpu
    shutil.rmtree(folder)
    return {
        "suite": "store", "data": name, "precision": precision, "tokens": n, "samples": len(traces), "batch_rows": rows,
        "rows_per_s": round(n / best["write"]), "rows_per_s_with_checkpoint": round(n / (best["write"] + best["close"])),
        "rows_per_cpu_s": round(n / best["cpu"]),
        "share_of_run": None if wall_s is None else round((best["write"] + best["close"]) / wall_s, 4),
        "bytes_per_token": round(sum(columns.values()), 1), "sealed_bytes_per_token": round(sum(parquet.values()), 1),
        "lists_read_cpu_us_per_token": round(read / n * 1e6, 2),
        "columns": {c: [round(columns.get(c, 0), 2), round(parquet.get(c, 0), 2)] for c in {**columns, **parquet}},
    }  # fmt: skip


def measure_parts(name: str, traces: list[SampleTrace], precision: Any, repetitions: int) -> dict[str, Any]:
    """Write the samples into a folder of parts, then attach it to a fresh store and once more; the fastest of all."""
    n = sum(trace.sample.n_tokens for trace in traces)
    best = {"write": np.inf, "cpu": np.inf, "attach": np.inf, "again": np.inf}
    folder = Path(tempfile.mkdtemp())
    for _ in range(repetitions):
        shutil.rmtree(folder)
        wall, cpu = asyncio.run(ingest(ParquetSink(folder / "parts", precision=precision), traces))
        best["write"], best["cpu"] = min(best["write"], wall), min(best["cpu"], cpu)
        for which in ("attach", "again"):
            start = time.perf_counter()
            attaching.attach(folder / "x.duckdb", [folder / "parts"])
            best[which] = min(best[which], time.perf_counter() - start)
    size = sum(path.stat().st_size for path in (folder / "parts").glob("bench/*/*_tokens.parquet"))
    shutil.rmtree(folder)
    return {
        "suite": "store", "data": name, "parts": precision, "tokens": n, "rows_per_s": round(n / best["write"]),
        "rows_per_cpu_s": round(n / best["cpu"]), "attached_rows_per_s": round(n / best["attach"]),
        "attached_again_rows_per_s": round(n / best["again"]), "bytes_per_token": round(size / n, 1),
    }  # fmt: skip


def database_bytes(path: Path, table: str, n: int) -> dict[str, float]:
    """Bytes a token of each column of a table, by the blocks that its segments fill (shared blocks by their share)."""
    with duckdb.connect(str(path), read_only=True) as connection:
        segments = connection.execute(
            "SELECT column_name, block_id, block_offset FROM pragma_storage_info(?) WHERE persistent AND block_id >= 0 "
            "ORDER BY block_id, block_offset",
            [table],
        ).fetchall()
        size = connection.execute("SELECT block_size FROM pragma_database_size()").fetchone()[0]
    found: dict[str, float] = {}
    by_block: dict[int, list[tuple[int, str]]] = {}
    for column, block, offset in segments:
        by_block.setdefault(block, []).append((offset, column))
    for parts in by_block.values():
        ends = [offset for offset, _ in parts[1:]] + [size]
        for (offset, column), end in zip(parts, ends, strict=True):
            found[column] = found.get(column, 0.0) + (end - offset) / n
    return found


def parquet_bytes(path: Path, n: int) -> dict[str, float]:
    found: dict[str, float] = {}
    metadata = pq.read_metadata(path)
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            name = column.path_in_schema.split(".")[0]
            found[name] = found.get(name, 0.0) + column.total_compressed_size / n
    return found


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def markdown(rows: list[dict[str, Any]]) -> str:
    head = [
        "data",
        "precision",
        "batch rows",
        "rows/s",
        "rows/CPU s",
        "with checkpoint",
        "share of run",
        "bytes a token: file",
        "sealed",
        "lists read, CPU us a token",
    ]
    keys = [
        "data",
        "precision",
        "batch_rows",
        "rows_per_s",
        "rows_per_cpu_s",
        "rows_per_s_with_checkpoint",
        "share_of_run",
        "bytes_per_token",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [
        f"| {' | '.join(_cell(row[key]) for key in [*keys, 'sealed_bytes_per_token', 'lists_read_cpu_us_per_token'])} |"
        for row in rows
    ]
    chosen = [row for row in rows if row["batch_rows"] == max(r["batch_rows"] for r in rows)]
    names = list(dict.fromkeys(name for row in chosen for name in row["columns"]))
    lines += ["", "Bytes a token, file / sealed:", ""]
    lines += ["| column | " + " | ".join(f"{row['data']}, {row['precision']}" for row in chosen) + " |"]
    lines += ["|---" * (len(chosen) + 1) + "|"]
    for name in names:
        cells = ["{:.1f} / {:.1f}".format(*row["columns"][name]) if name in row["columns"] else "" for row in chosen]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def keep(rows: list[dict[str, Any]]) -> None:
    """Put the rows into build/bench.json in place of this suite's, the others untouched."""
    OUT.parent.mkdir(exist_ok=True)
    others = json.loads(OUT.read_text()) if OUT.exists() else []
    text = json.dumps([row for row in others if row.get("suite") != "store"] + rows, indent=1)
    temporary = OUT.with_suffix(f".{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=245_760, help="synthetic tokens, in samples of 2,048")
    parser.add_argument("--demo", type=Path, help="a store of the demonstration, measured as well")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    samples = [synthetic_sample(rng, i, 2048) for i in range(given.tokens // 2048)]
    data: dict[str, tuple[list[SampleTrace], float | None]] = {"synthetic": (samples, None)}
    if given.demo is not None:
        data["demonstration"] = demo_samples(given.demo, K)
    rows = [
        measure(name, traces, precision, batch, given.repetitions, wall_s)
        for name, (traces, wall_s) in data.items()
        for precision, batch in (("compact", 1024), ("compact", 8192), ("compact", 122_880), ("exact", 122_880))
    ]
    known = candidate_ids(rng, CONTEXTS), drawn_logits(rng, CONTEXTS)
    for name, mass in (("recurring", 1.0), (f"recurring, to {MASS:.1%}", MASS)):
        samples = [synthetic_sample(rng, i, 2048, known, mass) for i in range(given.tokens // 2048)]
        rows.append(measure(name, samples, "compact", 122_880, given.repetitions, None))
    parts = [
        measure_parts(name, traces, precision, given.repetitions)
        for name, (traces, _) in data.items()
        for precision in ("compact", "exact")
    ]
    keep(rows + parts)
    print(markdown(rows))
    print("\nParquet parts by one writer, and attaching them:\n")
    print("\n".join(f"- {json.dumps(row)}" for row in parts))


if __name__ == "__main__":
    main()
