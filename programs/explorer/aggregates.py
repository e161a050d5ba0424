"""Statistics whose points lead to tokens: numbers are those of `rrti_sgl.db.queries`, with the tokens behind each added."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from rrti_sgl.db.analysis.needs import LEAST_COVERAGE
from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.queries import find_query, parameters_of, run_with_reader
from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer.asked import MissingError
from rrti_sgl.programs.explorer.samples import Payload

Row = Mapping[str, Any]
_METRIC = "ce"


class Aggregates:
    """The statistics of a store; each is made once.

    Args:
        store: open.
        index: of its samples.
    """

    def __init__(self, store: Store, index: SampleIndex) -> None:
        self._index, self._reader = index, TokenReader(store)
        self._made: dict[tuple[int, str, str | None], Payload] = {}
        self._lock = threading.Lock()  # a reader keeps what it read, and is not made for several threads

    def names(self) -> list[str]:
        """Those that the store has something for."""
        query = f"""
            WITH of_runs AS (
                SELECT
                    count(correct) > 0 AND sum(n_takeovers) > 0 AS budget,
                    sum(n_scored) >= {LEAST_COVERAGE} * sum(n_tokens) AND sum(n_tokens) > 0 AS covered,
                    sum(n_tagged) > 0 AS tagged,
                    count(correct) FILTER (arm = 'taken') > 0 AND count(correct) FILTER (arm = 'denied') > 0 AS arms
                FROM sample_index GROUP BY run_id
            )
            SELECT bool_or(budget) AS budget, bool_or(covered) AS position, bool_or(covered AND tagged) AS planning,
                bool_or(arms) AS causality
            FROM of_runs
        """
        [row] = self._index.sql(query).to_pylist()
        return [name for name, there in row.items() if there]

    def of(self, name: str, run: str | None) -> Payload:
        """A statistic with what is behind each of its points.

        Args:
            name: budget, position, planning or causality.
            run: whose; None takes the run that it tells most of.

        Raises:
            MissingError: there is no such statistic or run.
            UsageError: the run has not what it needs; says what.
        """
        make = {
            "budget": self._budget, "position": self._position, "planning": self._planning, "causality": self._causality,
        }.get(name)  # fmt: skip
        if make is None:
            raise MissingError(
                f"There is no statistic {name[:50]!r} here.", "There are budget, position, planning, causality."
            )
        if run is not None and not self._index.sql("FROM runs WHERE run_id = $run", {"run": run}).num_rows:
            raise MissingError(f"There is no run {run[:50]!r} in this store.", "Go to the list of runs: /.")
        key = (self._index.version, name, run)
        with self._lock:
            if key not in self._made:
                self._made[key] = {"name": name, **make(run)}
            return self._made[key]

    def _budget(self, run: str | None) -> Payload:
        rows = self._rows("budget")
        curves: dict[int, list[Row]] = {}
        for row in rows:
            curves.setdefault(row["curve_id"], []).append(row)
        chosen = [curve for curve in curves.values() if run is None or run in {row["run_id"] for row in curve}]
        if not chosen:
            raise UsageError(f"Run {run} is on no budget curve: its samples are not graded.", "Choose another run.")
        curve = max(chosen, key=lambda points: (len(points), points[-1]["program"] == "guided"))
        k = curve[0]["k"]
        value = "accuracy" if k == 1 else "pass_at_k"
        return {
            "run": run or curve[-1]["run_id"],
            "title": f"What a budget buys: {curve[-1]['curve']}",
            "x": "takeovers per token",
            "y": "accuracy" if k == 1 else f"pass@{k}",
            "note": _said("Behind a point are its run's takeovers.", curve[0]["knee_note"]),
            "points": [
                {**_point(row["run_id"], row["rho"], row, value, row["n_problems"]),
                 "tokens": {"run": row["run_id"], "fired": True} if row["rho"] else None}
                for row in curve
            ],
        }  # fmt: skip

    def _position(self, run: str | None) -> Payload:
        run = run or self._scored("position")
        rows = [row for row in self._rows("position", [run], metric=_METRIC) if row["within"] == "run"]
        least, p = self._threshold("position", run)
        return {
            "run": run,
            "title": f"Where the {p:.0%} of tokens of largest {_METRIC} lie",
            "x": "position in the solution, 0 to 1",
            "y": "density of these tokens; 1 is evenly spread",
            "note": rows[0]["note"],
            "points": [
                {**_point(f"{row['u_low']:.3f} to {row['u_high']:.3f}", row["middle"], row, "density_top", row["n_top"]),
                 "tokens": {"run": run, "positionFrom": row["u_low"], "positionTo": row["u_high"], "relative": True,
                            "metric": _METRIC, "scoreMin": least}}
                for row in rows if row["part"] == "density"
            ],
        }  # fmt: skip

    def _planning(self, run: str | None) -> Payload:
        run = run or self._scored("planning")
        rows = self._rows("planning", [run], metric=_METRIC)
        rows = [row for row in rows if (row["tokens"], row["within"], row["part"]) == ("top_metric", "run", "word")]
        least, p = self._threshold("planning", run)
        return {
            "run": run,
            "title": f"Words that are frequent among the {p:.0%} of tokens of largest {_METRIC}",
            "x": "word, by keyness",
            "y": "enrichment: share there over share in the run",
            "note": rows[0]["note"] if rows else "No word is there often enough.",
            "points": [
                {**_point(row["label"], place, row, "enrichment", row["n_matching"]),
                 "tokens": {"run": run, "word": row["label"], "metric": _METRIC, "scoreMin": least}}
                for place, row in enumerate(rows, 1)
            ],
        }  # fmt: skip

    def _causality(self, run: str | None) -> Payload:
        arms = self._index.sql(
            """
            SELECT own.run_id AS arms, parent.run_id AS parent, count(*) AS n
            FROM sample_index AS own JOIN sample_index AS parent ON parent.sample_id = own.parent_sample_id
            WHERE own.arm IS NOT NULL AND own.correct IS NOT NULL GROUP BY ALL ORDER BY n DESC, parent, arms
            """
        ).to_pylist()
        of = [row for row in arms if run in (None, row["parent"], row["arms"])]
        if not of:
            remedy = "Make arms of one of its samples: rrti counterfactual SAMPLE."
            raise UsageError(f"No token of run {run or '(any)'} was denied or forced by a counterfactual run.", remedy)
        parent = of[0]["parent"]
        rows = self._rows("causality", [row["arms"] for row in of if row["parent"] == parent])
        return {
            "run": parent,
            "title": "What a takeover does to the share of right solutions, by score",
            "x": "decile of the score",
            "y": "share of right solutions with the takeover, less without",
            "note": "Over positions of stored samples at which both arms were continued and graded.",
            "points": [
                {**_point(_between(row), row["decile"], row, "effect", row["n_positions"]),
                 "tokens": {"run": parent, "scoreMin": row["score_low"], "scoreMax": row["score_high"], "tested": True}}
                for row in rows if row["part"] == "decile" and row["run_id"] == parent
            ],
        }  # fmt: skip

    def _rows(self, name: str, runs: Sequence[str] | None = None, **params: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = run_with_reader(self._reader, name, run=runs, **params).to_pylist()
        return rows

    def _threshold(self, name: str, run: str) -> tuple[float, float]:
        """The smallest score of a statistic's top set, and its share of tokens."""
        p = float(parameters_of(find_query(name))["p"].default)
        tokens = self._reader.read(run, [_METRIC]).complete(_METRIC)
        return float(tokens.columns[_METRIC][tokens.in_top(_METRIC, p)].min()), p

    def _scored(self, name: str) -> str:
        """The run whose tokens are scored throughout: of base rollouts where there are any."""
        query = f"""
            SELECT run_id FROM sample_index GROUP BY run_id, program
            HAVING sum(n_scored) >= {LEAST_COVERAGE} * sum(n_tokens) AND sum(n_tokens) > 0
            ORDER BY program <> 'diagnose', sum(n_scored) DESC, run_id LIMIT 1
        """
        found = self._index.sql(query).to_pylist()
        if not found:
            raise UsageError(
                f"No run has {_METRIC} at most of its tokens, which {name} needs.", "Make one: rrti run diagnose."
            )
        return str(found[0]["run_id"])


def _point(label: str, x: float, row: Row, value: str, n: int) -> Payload:
    return {
        "label": label, "x": x, "y": row[value], "low": row.get(f"{value}_low"), "high": row.get(f"{value}_high"), "n": n,
    }  # fmt: skip


def _between(row: Row) -> str:
    return f"decile {row['decile']}: score {row['score_low']:.3g} to {row['score_high']:.3g}"


def _said(*notes: str | None) -> str:
    return " ".join(f"{note.rstrip('.')}." for note in notes if note)
