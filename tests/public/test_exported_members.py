"""What is public: this list, and nothing of it loaded by the import alone."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys

import pytest

import rrti_sgl as rr

MEMBERS = [
    "CalibrationMismatchError",
    "Counterfactual",
    "EndpointError",
    "ExperimentFileError",
    "Finished",
    "ModelPair",
    "PairMismatchError",
    "ProblemFileError",
    "RRTIError",
    "Run",
    "Sample",
    "Samples",
    "ServerLaunchError",
    "StoreError",
    "StoreLockedError",
    "StoreVersionError",
    "Table",
    "Takeover",
    "TextSettled",
    "TokensAccepted",
    "TraceStore",
    "UsageError",
    "__version__",
    "aconnect",
    "aopen",
    "aserve",
    "connect",
    "open",
    "serve",
]
METHODS = {
    "ModelPair": [
        *("acalibrate", "acounterfactual", "adiagnose", "agenerate", "arun", "arun_seeds", "ascore", "astream"),
        *(
            "calibrate",
            "close",
            "counterfactual",
            "diagnose",
            "generate",
            "models",
            "run",
            "run_seeds",
            "score",
            "store",
            "stream",
        ),
    ],
    "TraceStore": [
        *("acalibrate", "aexport", "areport", "asql", "astatistic", "awhatif", "calibrate", "close", "export", "path"),
        *("report", "run", "runs", "sample", "sql", "statistic", "temporary", "whatif"),
    ],
    "Run": [
        *("acalibrate", "areport", "astatistic", "awhatif", "calibrate", "report", "run_id", "samples", "statistic"),
        *("summary", "whatif"),
    ],
    "Sample": ["answer", "correct", "record", "sample_id", "text", "tokens", "view"],
}


def test_the_public_members() -> None:
    assert sorted(rr.__all__) == MEMBERS
    assert {*MEMBERS} <= {*dir(rr)}
    assert all(getattr(rr, name) is not None for name in MEMBERS)


@pytest.mark.parametrize("name", METHODS)
def test_the_public_methods(name: str) -> None:
    assert [member for member in sorted(vars(getattr(rr, name))) if not member.startswith("_")] == sorted(METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_twins_have_the_same_arguments(name: str) -> None:
    members = vars(getattr(rr, name))
    twins = [(members[each], members[f"a{each}"]) for each in members if f"a{each}" in members]
    for waiting, awaited in twins:
        assert inspect.signature(waiting).parameters == inspect.signature(awaited).parameters
        assert awaited.__name__ == f"a{waiting.__name__}"
        assert awaited.__doc__ != waiting.__doc__
    assert len(twins) == sum(f"a{each}" in members for each in METHODS[name])


def test_everything_public_is_described() -> None:
    for name in set(MEMBERS) - {"__version__"}:
        assert inspect.getdoc(getattr(rr, name)), name


def test_there_is_nothing_else() -> None:
    with pytest.raises(AttributeError, match="no attribute 'sreve'"):
        _ = rr.sreve


def test_the_import_loads_nothing_that_is_slow() -> None:
    code = "import sys, rrti_sgl; dir(rrti_sgl); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "rrti_sgl" in loaded
    slow = {"torch", "sglang", "transformers", "duckdb", "numpy", "pyarrow", "pydantic", "rich", "asyncio"}
    assert not slow & set(loaded)
    assert [name for name in loaded if name.startswith("rrti_sgl.")] == []


def test_the_classes_load_no_model_code() -> None:
    code = "import sys, rrti_sgl as rr; rr.serve, rr.open, rr.Sample; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "sglang", "typer", "matplotlib"} & set(loaded)


def test_the_twins_of_the_doors() -> None:
    for name in ("serve", "connect", "open"):
        assert asyncio.iscoroutinefunction(getattr(rr, f"a{name}"))
        assert inspect.signature(getattr(rr, name)) == inspect.signature(getattr(rr, f"a{name}"))
