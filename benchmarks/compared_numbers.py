"""What the statistics benchmark compares: the numbers of a statistic by name, made of our table or of a data-frame library.

Definitions are those of `rrti stats --definitions`, with the default parameters. `polars_statistics.py` and
`pandas_statistics.py` have a function for each of `COMPARED`, which takes the folder of the export and a list of runs and
returns numbers under the names that `rows_of` gives to ours, so that the benchmark can refuse to time different answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

Numbers = dict[tuple[Any, ...], float]
CARRIED, TOP = (0.5, 0.8, 0.9, 0.94), (0.01, 0.05, 0.08, 0.1, 0.2)
GRID = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
PREDICTORS = ("ce", "entropy_base", "length")
EDGES, BINS, POSITION_P, PLANNING_P, TOP_K = (0.05, 0.1, 0.2), 30, 0.01, 0.01, 100
SETS = ("all", "top_metric", "top_entropy", "takeovers")


def lowered(quantile: float) -> float:
    """A threshold of a top-p set as the queries use it: less a relative 1e-12."""
    return quantile - 1e-12 * abs(quantile)


def position_numbers(run: str, cells: Mapping[str, list[Any]]) -> Numbers:
    """What follows from the counted cells; some hundred rows, so it is the same for both libraries."""
    bins, segments = np.array(cells["bin"]), np.array(cells["segment"])
    counts = {name: np.array([value or 0 for value in cells[name]], dtype=float) for name in ("n_all", "n_top", "n_first")}
    found: Numbers = {}
    for b in range(BINS):
        here = bins == b
        for name in ("n_all", "n_top", "n_first"):
            found[run, "density", b / BINS, name] = counts[name][here].sum()
    for index, x in enumerate(EDGES):
        for part, here in (("within", segments < index + 1), ("beyond", segments >= index + 1)):
            for name in ("n_all", "n_top", "n_first"):
                found[run, part, x, name] = counts[name][here].sum()
    return found


def planning_numbers(run: str, sizes: Any, by_tag: Mapping[str, Any], words: list[dict[str, Any]]) -> Numbers:
    """Shares from the counts of some thousand words, and the keyness of the most over-represented."""
    found: Numbers = {}
    for name in SETS:
        found[run, "planning", None, name] = sum(row[name] for row in by_tag.values())
        for tag, row in by_tag.items():
            found[run, "category", tag, name] = row[name]
    keyness = sorted(
        (_dunning(row["top_metric"], sizes["top_metric"], row["all"], sizes["all"]), row["word"])
        for row in words
        if row["word"] and row["top_metric"] >= 5 and row["top_metric"] / sizes["top_metric"] > row["all"] / sizes["all"]
    )
    for value, word in keyness[-10:]:
        found[run, "word", word, "top_metric"] = value
    return found


def _dunning(k: int, n: int, k_all: int, n_all: int) -> float:
    observed = np.array([k, n - k, k_all - k, n_all - n - k_all + k], dtype=float)
    expected = np.array([n * k_all, n * (n_all - k_all), (n_all - n) * k_all, (n_all - n) * (n_all - k_all)]) / n_all
    some = observed > 0
    return float(2 * (observed[some] * np.log(observed[some] / expected[some])).sum())


def rows_of(name: str, rows: list[dict[str, Any]]) -> Numbers:
    """The numbers of a statistic's table under the names that the functions above give them."""
    whole = [row for row in rows if row.get("within") != "sample"]  # the libraries take top sets of the run
    return {key: float(value) for row in whole for key, value in _NAMED[name](row) if value is not None}


def _of_sparsity(row: dict[str, Any]) -> list[Any]:
    return [((row["run_id"], row["statistic"], row["level"]), row["value"])]


def _of_position(row: dict[str, Any]) -> list[Any]:
    if row["part"] == "peak":
        return []
    u = row["u_high"] if row["part"] == "within" else row["u_low"]
    return [((row["run_id"], row["part"], u, name), row[name]) for name in ("n_all", "n_top", "n_first")]


def _of_uncertainty(row: dict[str, Any]) -> list[Any]:
    names = ("n_metric", "n_entropy", "iou", "spearman")
    return [((row["run_id"], name, row["p"]), row[name]) for name in names]


def _of_planning(row: dict[str, Any]) -> list[Any]:
    value = row["keyness"] if row["part"] == "word" else row["n_matching"]
    return [((row["run_id"], row["part"], row["label"], row["tokens"]), value)]


def _of_failure(row: dict[str, Any]) -> list[Any]:
    return [((row["run_id"], name, row["predictor"]), row[name]) for name in ("auroc", "average_precision")]


def _of_takeovers(row: dict[str, Any]) -> list[Any]:
    run, part, label = row["run_id"], row["part"], row["label"]
    if part == "entropy":
        return [((run, "entropy", label), row["mean"])]
    if part == "position":
        return [((run, "position", round(float(label[2:6]) * 10)), row["n"])]
    if part in ("run", "gap") and label == "1":
        return [((run, "singles" if part == "run" else "short gaps"), row["n"])]
    return []


_NAMED: Mapping[str, Callable[[dict[str, Any]], list[Any]]] = {
    "sparsity": _of_sparsity,
    "position": _of_position,
    "uncertainty": _of_uncertainty,
    "planning": _of_planning,
    "failure": _of_failure,
    "takeovers": _of_takeovers,
}
COMPARED = tuple(_NAMED)
