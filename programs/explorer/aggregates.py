"""Statistics whose points lead to tokens: numbers are those of `rrti_sgl.db.queries`, with the tokens behind each added."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from rrti_sgl.db.analysis.needs import LEAST_COVERAGE
from rrti_sgl.db.analysis.token_values import TokenReader
from rrti_sgl.db.queries import find_query, parameters_of, run_with_reader
from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.db.store import Store
from rrti_sgl.db.tables import SCORES
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer.asked import MissingError, StatisticAsked
from rrti_sgl.programs.explorer.samples import Payload
from rrti_sgl.programs.tables.kinds import KINDS, named_text
from rrti_sgl.programs.tables.numbers import LEVEL, NUMBER, Kind

Row = Mapping[str, Any]
Key = TypeVar("Key")
Value = TypeVar("Value")
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of tokens, to choose from
OF_SCORES = ("position", "planning")  # those of the tokens of largest value of a metric
_METRIC = "ce"
_KEPT = 128  # tables and payloads that are not made again; a share of tokens may be any number
_WORDS = 5  # where no share is asked for, the smallest with so many words
_COVERED = f"sum(n_scored) >= {LEAST_COVERAGE} * sum(n_tokens) AND sum(n_tokens) > 0"


class Aggregates:
    """The statistics of a store; each is made once.

    Args:
        store: open.
        index: of its samples.
    """

    def __init__(self, store: Store, index: SampleIndex) -> None:
        self._index, self._reader = index, TokenReader(store)
        self._made: dict[tuple[int, str, StatisticAsked], Payload] = {}
        self._tables: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
        self._lock = threading.Lock()  # a reader keeps what it read, and is not made for several threads

    def names(self) -> list[str]:
        """Those that the store has something for."""
        query = f"""
            WITH of_runs AS (
                SELECT
                    count(correct) > 0 AND sum(n_takeovers) > 0 AS budget,
                    {_COVERED} AS covered,
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

    def of(self, name: str, asked: StatisticAsked) -> Payload:
        """A statistic with what is behind each of its points, and what else can be chosen.

        Args:
            name: budget, position, planning or causality.
            asked: whose, and of which tokens; without a run it takes the one that it tells most of.

        Raises:
            MissingError: there is no such statistic or run.
            UsageError: the run has not what it needs; says what. Or it is asked for what the statistic has not.
        """
        make = {
            "budget": self._budget, "position": self._position, "planning": self._planning, "causality": self._causality,
        }.get(name)  # fmt: skip
        if make is None:
            raise MissingError(
                f"There is no statistic {name[:50]!r} here.", "There are budget, position, planning, causality."
            )
        if asked.run is not None and not self._index.sql("FROM runs WHERE run_id = $run", {"run": asked.run}).num_rows:
            raise MissingError(f"There is no run {asked.run[:50]!r} in this store.", "Go to the list of runs: /.")
        if name not in OF_SCORES and (asked.metric, asked.p) != (None, None):
            raise UsageError(f"{name} is not of a share of the tokens.", "Leave metric and p out.")
        key = (self._index.version, name, asked)
        with self._lock:
            if key not in self._made:
                nothing: Payload = {"metric": None, "metrics": [], "share": None, "shares": []}
                _keep(self._made, key, {"name": name, **nothing, **make(asked)})
            return self._made[key]

    def _budget(self, asked: StatisticAsked) -> Payload:
        run, rows = asked.run, self._rows("budget")
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
            "runs": list(dict.fromkeys(row["run_id"] for row in rows)),
            "title": f"What a budget buys: {curve[-1]['curve']}",
            "x": "takeovers per token",
            "y": "accuracy" if k == 1 else f"pass@{k}",
            "ticks": _ticks(value),
            "note": _said("Behind a point are its run's takeovers.", curve[0]["knee_note"]),
            "points": [
                {**_point(row["run_id"], "rho", row, value, row["n_problems"]),
                 "tokens": {"run": row["run_id"], "fired": True} if row["rho"] else None}
                for row in curve
            ],
        }  # fmt: skip

    def _position(self, asked: StatisticAsked) -> Payload:
        chosen = self._chosen("position", asked)
        run, metric, p = chosen["run"], chosen["metric"], chosen["share"]
        rows = [row for row in self._rows("position", [run], metric=metric, p=p) if row["within"] == "run"]
        least = self._threshold(run, metric, p)
        return {
            **chosen,
            "title": f"Where the {LEVEL.text(p)} of tokens of largest {metric} lie",
            "x": "position in the solution, 0 to 1",
            "y": "density of these tokens; 1 is evenly spread",
            "ticks": _ticks("density_top"),
            "note": rows[0]["note"],
            "points": [
                {**_point(_between(row, "u"), "middle", row, "density_top", row["n_top"]),
                 "tokens": {"run": run, "positionFrom": row["u_low"], "positionTo": row["u_high"], "relative": True,
                            "metric": metric, "scoreMin": least}}
                for row in rows if row["part"] == "density"
            ],
        }  # fmt: skip

    def _planning(self, asked: StatisticAsked) -> Payload:
        chosen = self._chosen("planning", asked)
        run, metric, p = chosen["run"], chosen["metric"], chosen["share"]
        rows = self._words(run, metric, p)
        least = self._threshold(run, metric, p)
        return {
            **chosen,
            "title": f"Words that are frequent among the {LEVEL.text(p)} of tokens of largest {metric}",
            "x": "word, by keyness",
            "y": "enrichment: share there over share in the run",
            "ticks": _ticks("enrichment"),
            "note": rows[0]["note"] if rows else "No word is there often enough.",
            "points": [
                {**_point(row["label"], "place", {**row, "place": place}, "enrichment", row["n_matching"]),
                 "tokens": {"run": run, "word": row["label"], "metric": metric, "scoreMin": least}}
                for place, row in enumerate(rows, 1)
            ],
        }  # fmt: skip

    def _chosen(self, name: str, asked: StatisticAsked) -> Payload:
        """The run, the metric and the share of tokens of a statistic of scores, and what else there is to choose."""
        runs = self._scored(tagged=name == "planning")
        run, metric = asked.run or (runs[0] if runs else None), asked.metric or _METRIC
        if run is None:
            message = f"No run has {_METRIC} at most of its tokens, which {name} needs."
            raise UsageError(message, "Make one: rrti run diagnose.")
        counts = ", ".join(f"count({each}) >= {LEAST_COVERAGE} * count(*) AS {each}" for each in SCORES)
        [there] = self._index.sql(f"SELECT {counts} FROM tokens WHERE run_id = $run", {"run": run}).to_pylist()
        p = asked.p or float(parameters_of(find_query(name))["p"].default)
        if asked.p is None and name == "planning":
            sizes = {share: len(self._words(run, metric, share, resamples=0)) for share in SHARES}
            p = next((share for share in SHARES if sizes[share] >= _WORDS), max(SHARES, key=lambda share: sizes[share]))
        return {
            "run": run, "runs": runs, "metric": metric, "metrics": [each for each in SCORES if there[each]],
            "share": p, "shares": sorted({*SHARES, p}),
        }  # fmt: skip

    def _words(self, run: str, metric: str, p: float, **params: Any) -> list[dict[str, Any]]:
        rows = self._rows("planning", [run], metric=metric, p=p, **params)
        return [row for row in rows if (row["tokens"], row["within"], row["part"]) == ("top_metric", "run", "word")]

    def _causality(self, asked: StatisticAsked) -> Payload:
        run = asked.run
        arms = self._index.sql(
            """
            SELECT own.run_id AS arms, parent.run_id AS parent, count(*) AS n
            FROM sample_index AS own JOIN sample_index AS parent ON parent.sample_id = own.parent_sample_id
            WHERE own.arm IN ('taken', 'denied') AND own.correct IS NOT NULL GROUP BY ALL ORDER BY n DESC, parent, arms
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
            "runs": list(dict.fromkeys(row["parent"] for row in arms)),
            "title": "What a takeover does to the share of right solutions, by score",
            "x": "decile of the score",
            "y": "effect, in percentage points",
            "ticks": _ticks("effect"),
            "note": "An effect is the share with the takeover, less the share without it. Over positions of stored samples "
            "at which both arms were continued and graded.",
            "points": [
                {**_point(f"decile {row['decile']}: {_between(row, 'score')}", "decile", row, "effect", row["n_units"]),
                 "tokens": {"run": parent, "scoreMin": row["score_low"], "scoreMax": row["score_high"], "tested": True}}
                for row in rows if (row["part"], row["unit"], row["run_id"]) == ("decile", "token", parent)
            ],
        }  # fmt: skip

    def _rows(self, name: str, runs: Sequence[str] | None = None, **params: Any) -> list[dict[str, Any]]:
        key = (self._index.version, name, *(runs or ()), *params.items())
        if key not in self._tables:
            _keep(self._tables, key, run_with_reader(self._reader, name, run=runs, **params).to_pylist())
        return self._tables[key]

    def _threshold(self, run: str, metric: str, p: float) -> float:
        """The smallest value in the top set of a statistic."""
        return self._reader.read(run, [metric]).complete(metric).ranking(metric).least_in_top(p)

    def _scored(self, *, tagged: bool) -> list[str]:
        """The runs whose tokens are scored throughout: of base rollouts first, continuations of others' samples last.

        Args:
            tagged: only those that have planning words.
        """
        query = f"""
            SELECT run_id FROM sample_index GROUP BY run_id, program
            HAVING {_COVERED} AND (sum(n_tagged) > 0 OR NOT $tagged)
            ORDER BY program = 'counterfactual', program <> 'diagnose', sum(n_scored) DESC, run_id
        """
        found: list[str] = self._index.sql(query, {"tagged": tagged})["run_id"].to_pylist()
        return found


def _point(label: str, x: str, row: Row, value: str, n: int) -> Payload:
    """One point, of the columns that are its place and its value, and both as tables write them."""
    y, low, high = (row.get(name) for name in (value, f"{value}_low", f"{value}_high"))
    written, _, interval = _kind(value).interval(y, low, high).partition(" ")
    said = {"x": named_text(x, row[x]), "y": written, "interval": interval or None}
    return {"label": label, "x": row[x], "y": y, "low": low, "high": high, "n": n, "said": said}


def _kind(column: str) -> Kind:
    kind = KINDS.get(column)
    return kind if isinstance(kind, Kind) else NUMBER


def _ticks(column: str) -> Payload:
    """How an axis writes the numbers of a column."""
    return {"factor": _kind(column).factor, "suffix": _kind(column).suffix}


def _keep(made: dict[Key, Value], key: Key, value: Value) -> None:
    """Keep what was made, and forget what was made first where that is too much."""
    made[key] = value
    if len(made) > _KEPT:
        del made[next(iter(made))]


def _between(row: Row, column: str) -> str:
    return " to ".join(named_text(name, row[name]) for name in (f"{column}_low", f"{column}_high"))


def _said(*notes: str | None) -> str:
    return " ".join(f"{note.rstrip('.')}." for note in notes if note)
