"""Statistics that are computed from arrays give the rows of the SQL that says the same: `oracles/*.sql`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rrti_sgl.db.analysis.needs import coverage
from rrti_sgl.db.analysis.query import run_text
from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.queries import QUERIES, find_query, parameters_of
from rrti_sgl.db.store import Store
from tests.statistics.conftest import random_traces, write_run

COMPUTED = [name for name, query in QUERIES.items() if query.compute is not None]
PARAMS: dict[str, list[dict[str, Any]]] = {
    "sparsity": [{"by": by, "metric": metric} for by in ("run", "benchmark", "sample") for metric in ("ce", "entropy_base")],
    "uncertainty": [{"metric": "ce"}, {"metric": "tv"}, {"metric": "entropy_base"}],
    "position": [{"metric": metric, "p": p, "bins": 4} for metric in ("ce", "tv") for p in (0.02, 0.3)],
    "planning": [{"p": p, "words": words, "least": 1} for p in (0.05, 0.3) for words in (2, 10)],
    "calibration": [{"spike_ratio": 0.3, "shares": [0.5, 0.25], "seeds": 3}, {"metric": "kl", "spike_ratio": 0.08}],
    "failure": [{"top_k": [1, 3]}, {"metric": "kl", "top_k": [2]}],
}
ORACLES = Path(__file__).parent / "oracles"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", COMPUTED)
def test_the_sql_gives_the_same_rows(store: Store, name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for run in ("r1", "r2"):
        # Thresholds are taken from runs without takeovers alone.
        traces = random_traces(rng, run, fires=0.0 if name in ("calibration", "transfer") and run == "r1" else 0.3)
        # Scores that are missing here and there, each somewhere else.
        for trace in traces:
            for column in ("ce", "kl", "entropy_base"):
                values = getattr(trace.tokens, column)
                values[rng.random(len(values)) < 0.1] = np.nan
            trace.tokens.planning_tag[:] = rng.choice(np.array([None, "goal", "revision"]), len(values)).tolist()
            trace.tokens.token_text[:] = rng.choice([" So", "so", "İx", "ÄX", "y ", "\n"], len(values)).tolist()
        write_run(store, run, traces)
    query = find_query(name)
    assert query.compute is not None
    for given in PARAMS.get(name, [{}]):
        values = {key: parameter.default for key, parameter in parameters_of(query).items()}
        values |= given | {"runs": ["r2", "r1"], "pairs": True, "resamples": 0, "reader": TokenReader(store)}
        values["metric"] = next(iter(values["metric"])) if isinstance(values.get("metric"), list) else values.get("metric")
        if query.prepare is not None:
            values = dict(query.prepare(store, coverage(store, query, values["runs"], values), values))
        computed = query.compute(store, values)
        # What is said beside the numbers has tests of its own.
        computed = computed.drop_columns([each for each in ("covered", "note") if each in computed.column_names])
        defined = run_text(store, (ORACLES / f"{name}.sql").read_text(), values)
        assert computed.schema.names == defined.schema.names
        assert [str(field.type) for field in computed.schema] == [str(field.type) for field in defined.schema]
        assert computed.num_rows == defined.num_rows > 0
        for ours, wanted in zip(computed.to_pylist(), defined.to_pylist(), strict=True):
            for column, value in wanted.items():
                expected = pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
                assert ours[column] == expected, (column, ours, wanted)


def test_every_oracle_is_used() -> None:
    assert {path.stem for path in ORACLES.glob("*.sql")} == set(COMPUTED)
