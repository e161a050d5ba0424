"""A metric is added by the commit that docs/architecture.md shows. Run as a program, because everything follows from the
declaration when it is imported: `python added_metric.py FOLDER` prints what it finds.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rrti_sgl.records import FloatArray, SampleTrace
from rrti_sgl.science import divergences, metrics
from tests.db.earlier import unpacked

if TYPE_CHECKING:
    from rrti_sgl.science.gates import Gate

ROOT = Path(__file__).parents[2]


def declare() -> tuple[str, str]:
    """Adds function and entry of the commit on the page to the running modules; the rest, a migration, with its path."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    [diff] = re.findall(r"^\*\*A metric\.\*\*.*?^```diff\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    files = re.findall(r"^\+\+\+ b/(.*)\n((?:\+.*\n)+)", diff, re.MULTILINE)
    added = {path: re.sub(r"^\+", "", lines, flags=re.MULTILINE) for path, lines in files}
    exec(added.pop("rrti_sgl/science/divergences.py"), vars(divergences))
    [metric] = eval(f"({added.pop('rrti_sgl/science/metrics.py')})", vars(metrics))
    metrics.METRICS = {**metrics.METRICS, metric.name: metric}
    [migration] = added.items()
    return migration


def main(folder: Path, path: str, migration: str) -> None:
    from rrti_sgl import migrations
    from rrti_sgl.db.schema import schema_markdown
    from rrti_sgl.db.store import Store

    # A store with runs that were sealed by an earlier version, which did not know the metric.
    unpacked("0002", folder / "compact.duckdb")
    shutil.copytree(migrations.HERE, folder / "migrations")
    (folder / path).write_text(migration, encoding="utf-8")
    migrations.HERE = folder / "migrations"
    found: dict[str, Any] = {precision: stored(folder, precision) for precision in ("compact", "exact")}
    with Store.open_sealed(folder / "compact.duckdb") as store:
        counts = "SELECT count(*) AS n, count(ce) AS ce, count(jeffreys) AS jeffreys FROM tokens"
        found["sealed before"] = store.sql(counts).to_pylist()
    found["page"] = [line for line in schema_markdown().splitlines() if "jeffreys" in line]
    print(json.dumps(found))


def stored(folder: Path, precision: Literal["compact", "exact"]) -> dict[str, Any]:
    """Samples that a gate on the new metric decided, as they come back from the store."""
    from rrti_sgl.db.store import Store
    from rrti_sgl.db.upgrading import upgrade_file
    from rrti_sgl.science.gates import DivergenceGate, EntropyGate, ThresholdRule
    from tests.db.conftest import declared, make_run, tables_of

    path = folder / f"{precision}.duckdb"
    upgrade_file(path)
    gates = {"watched": DivergenceGate("jeffreys", ThresholdRule(0.4)), "beside": EntropyGate(ThresholdRule(1.0))}
    found: dict[str, Any] = {"is as declared": tables_of(path) == declared()}
    with Store.open(path, precision=precision) as store:
        for run_id, gate in gates.items():
            store.begin_run(make_run(run_id, metric=gate.metric, k=3))
            trace = decoded(run_id, gate)
            store.write_samples([trace])
            back = store.load_sample(trace.sample.sample_id)
            found[run_id] = {
                "decoded": plain(trace.tokens.jeffreys),
                "score": plain(back.tokens.score),
                "loaded": plain(back.tokens.jeffreys),
                "asked": plain(store.scores(run_id, "jeffreys")),
            }
    return found


def decoded(run_id: str, gate: Gate) -> SampleTrace:
    """A sample of the toy pair."""
    from rrti_sgl.decoding.finishing import Finisher
    from rrti_sgl.programs.frontend.session import Ungraded
    from rrti_sgl.science.planning import LexicalTagger
    from tests.decoding.test_conformance import make_job, options, run_decoding

    vocabulary: Any = SimpleNamespace(
        decode=lambda ids: " ".join(map(str, ids)), pieces=lambda ids: [*map(str, ids)], token_text=str, stop_token_ids={0}
    )
    job = replace(make_job(3), run_id=run_id)
    [trace] = run_decoding("chunked", gate, options(k=3), [job])
    return Finisher(vocabulary, Ungraded(), LexicalTagger()).finish(job, trace)


def plain(column: FloatArray) -> list[float | None]:
    """Numbers as JSON has them."""
    return [None if np.isnan(value) else float(value) for value in column]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *declare())
