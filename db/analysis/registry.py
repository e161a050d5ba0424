"""The statistics in the order of the paper: diagnosis first, then intervention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from rrti_sgl.db.analysis.query import Query

# Each is the module of its name.
NAMES = (
    *("sparsity", "position", "uncertainty", "planning", "failure", "accuracy", "flips", "budget", "ablation"),
    *("calibration", "transfer", "takeovers", "reallocation", "metrics", "cost", "planted", "causality", "pivotal"),
)


class _Statistics(Mapping[str, Query]):
    """The statistics by name, each loaded when it is asked for."""

    def __getitem__(self, name: str) -> Query:
        if name not in NAMES:
            raise KeyError(name)
        query: Query = import_module(f"rrti_sgl.db.analysis.{name}").QUERY
        return query

    def __iter__(self) -> Iterator[str]:
        return iter(NAMES)

    def __len__(self) -> int:
        return len(NAMES)


QUERIES: Mapping[str, Query] = _Statistics()
