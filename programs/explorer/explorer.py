"""Everything that the explorer shows of a store, by address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlencode

from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.db.store import Store
from rrti_sgl.errors import command
from rrti_sgl.programs.explorer.aggregates import Aggregates
from rrti_sgl.programs.explorer.asked import (
    MissingError,
    NothingAsked,
    PartAsked,
    SamplesAsked,
    StatisticAsked,
    TokensAsked,
    read,
)
from rrti_sgl.programs.explorer.sample import Samples
from rrti_sgl.programs.explorer.samples import Payload, SampleLists
from rrti_sgl.programs.explorer.texts import TokenTexts
from rrti_sgl.programs.explorer.tokens import tokens_behind
from rrti_sgl.programs.explorer.tree import Trees
from rrti_sgl.science.metrics import METRICS
from rrti_sgl.tokens.vocabulary import Vocabulary

Query = Mapping[str, Sequence[str]]
STATISTIC = ("run", "metric", "p")  # what is asked of a statistic, in the order of its address
_SCORE = {"name": "score", "unit": "", "meaning": "What the gate saw: the run's metric, in its unit."}


class Explorer:
    """The payloads of a store; may be used from several threads. A context manager, to be closed before the store.

    Args:
        store: open; what is written to it later is taken in by `refresh`.
        vocabulary: of its models, where one is at hand.
        branching: whether tokens can be gone on from.
    """

    def __init__(self, store: Store, vocabulary: Vocabulary | None = None, *, branching: bool = False) -> None:
        self.store = store
        typed = command("view", base_url="URL", reasoning_url="URL")
        self._remedy = (
            "" if branching else f"Show the explorer the servers of the run's models: {typed}. `rrti serve` starts them."
        )
        self.index = SampleIndex(store)
        self.lists = SampleLists(self.index)
        self._texts = TokenTexts(store, vocabulary)
        self._runs: dict[str, Payload] = {}
        self.samples = Samples(store, self.index, self.lists, self._texts, self._runs)
        self.trees = Trees(self.index, self.lists, self._texts)
        self.aggregates = Aggregates(store, self.index)
        self._read_runs()

    def __enter__(self) -> Explorer:
        return self

    def __exit__(self, *raised: object) -> None:
        self.index.close()

    def warm(self) -> None:
        """Find out now what the first sample would otherwise wait for: the texts of candidates."""
        for run in self._runs:
            self._texts.of_run(run)

    def refresh(self, run_id: str) -> None:
        """Take in what a run has since."""
        self.index.add(run_id)
        self._read_runs()

    def answer(self, path: str, query: Query) -> Any:
        """The payload of a data address.

        Args:
            path: without `/data/`, its segments as they were written: "sample/RUN/SAMPLE".
            query: by name all values that are given.

        Raises:
            MissingError: there is no such address, run or sample.
            UsageError: a parameter that there is not, or a value that does not fit.
        """
        match [unquote(segment) for segment in path.split("/")]:
            case ["store"]:
                read(NothingAsked, query)
                return self.info()
            case ["samples"]:
                return self.lists.page(read(SamplesAsked, query))
            case ["sample", run, sample]:
                read(NothingAsked, query)
                return self.samples.sample(run, sample)
            case ["candidates", run, sample]:
                return self.samples.candidates(run, sample, read(PartAsked, query))
            case ["partners", run, sample]:
                read(NothingAsked, query)
                return self.lists.partners(run, sample)
            case ["tree", run, sample]:
                read(NothingAsked, query)
                return self.trees.nodes(run, sample)
            case ["export", "tree", run, sample]:
                read(NothingAsked, query)
                return self.trees.export(run, sample)
            case ["statistics", name]:
                return self.aggregates.of(name, read(StatisticAsked, query))
            case ["tokens"]:
                return tokens_behind(self.index, read(TokensAsked, query))
        raise MissingError(f"There is no address {path[:100]!r}.", "Go to the list of runs and samples: /.")

    def info(self) -> Payload:
        """What the store has."""
        metrics = [{"name": one.name, "unit": one.unit, "meaning": one.comment} for one in METRICS.values()]
        return {
            "name": self.store.path.name,
            "static": False,
            "branching": not self._remedy,
            "branchingRemedy": self._remedy,
            "runs": list(self._runs.values()),
            "metrics": [_SCORE, *metrics],
            "statistics": self.aggregates.names(),
        }

    def first(self, path: str, query: Query, search: str = "") -> dict[str, Any]:
        """What the view at an address of a page needs, by data address; see `answer`.

        Args:
            path: without its first `/`.
            query: by name all values that are given.
            search: the query as it was written, with its `?`.

        Raises:
            MissingError, UsageError: as `answer`; an address that is none of a page.
        """
        path = "/".join(quoted(unquote(segment)) for segment in path.split("/"))
        match path.split("/"):
            case [""]:
                return {f"samples{search}": self.answer("samples", query)}
            case ["sample" | "tree", _, _]:
                return {path: self.answer(path, {})}
            case ["compare", run, sample, other, another]:
                keys = (f"sample/{run}/{sample}", f"sample/{other}/{another}")
                return {key: self.answer(key, {}) for key in keys}
            case ["statistics", _]:
                own = {name: query[name] for name in STATISTIC if name in query}  # which point is chosen is the page's
                return {path + searched(own): self.answer(path, own)}
        raise MissingError(f"There is no page {path[:100]!r}.", "Go to the list of runs and samples: /.")

    def _read_runs(self) -> None:
        query = """
            SELECT
                runs.run_id AS run, program, status, strftime(created_at, '%Y-%m-%dT%H:%M:%SZ') AS "createdAt",
                config ->> '$.arms.unit' AS unit, coalesce(config ->> '$.program', program) AS writer,
                problem_set AS "problemSet", base_model AS "baseModel", reasoning_model AS "reasoningModel",
                coalesce(n.samples, 0) AS samples, coalesce(n.graded, 0) AS graded, coalesce(n."right", 0) AS "right",
                coalesce(n.tokens, 0) AS tokens,
                coalesce(n.takeovers, 0) AS takeovers, metric, score_kind AS "scoreKind", temperature,
                gate, tau, lambda_ AS lambda, "window", warmup,
                coalesce((gate_params ->> '$.cooldown')::INTEGER, 0) AS cooldown,
                coalesce((gate_params ->> '$.rolling')::INTEGER, 1) AS rolling
            FROM runs LEFT JOIN (
                SELECT
                    run_id, count(*) AS samples, count(correct) AS graded, count(*) FILTER (correct) AS "right",
                    sum(n_tokens)::BIGINT AS tokens, sum(n_takeovers)::BIGINT AS takeovers
                FROM sample_index GROUP BY run_id
            ) AS n USING (run_id)
            ORDER BY created_at, runs.run_id
        """
        found = {}
        for row in self.index.sql(query).to_pylist():
            rule = {name: row.pop(name) for name in ("tau", "lambda", "window", "warmup", "cooldown", "rolling")}
            gate = row.pop("gate")
            found[row["run"]] = {**row, "gate": None if gate is None else {"name": gate, "metric": row["metric"], **rule}}
        self._runs.update(found)  # runs only come: an explorer is the store's one writer, or the store stays as it is


def quoted(text: str) -> str:
    """A segment of an address, as JavaScript's encodeURIComponent writes it."""
    return quote(text, safe="!~*'()")


def searched(query: Query) -> str:
    """A query as JavaScript's URLSearchParams writes it, with its `?`; "" for none."""
    written = urlencode(query, doseq=True, safe="*").replace("~", "%7E")
    return f"?{written}" if written else ""
