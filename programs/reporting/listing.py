"""What is in a store, to choose from: its runs, samples of them, and two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.runs import RunSelection, runs_of, select_runs
from rrti_sgl.programs.tables.numbers import COUNT, RATE, SHARE, Kind
from rrti_sgl.programs.tables.table import Column, Table

Verdict = Literal["right", "wrong", "ungraded"]
_FLIPS = {(False, True): "put right", (True, False): "spoilt"}


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which samples are listed.

    Args:
        verdict: only right, wrong, or ungraded ones.
        flipped: only those that the base run of the same problems has otherwise: put right, or spoilt. Of several samples a
            problem none is the pair of another: none is flipped.
        takeovers: only those with at least so many takeovers.
        problem: only those of one problem, by its id or the first digits of it.
        limit: at most so many.
    """

    verdict: Verdict | None = None
    flipped: bool = False
    takeovers: int = 0
    problem: str = ""
    limit: int = 20


def list_runs(store: Store, references: Sequence[str] = ()) -> list[Table]:
    """The runs in groups that can be compared, with what each is called there; diagnosis and others by themselves.

    Raises:
        UsageError: a reference matches no run, or the store has none.
    """
    found = {run.run_id: run.program for run in runs_of(store, references)}
    if not found:
        raise UsageError(f"The store {store.path} has no runs.", "Make one: rrti run base.")
    query = "SELECT run_id, n_samples, n_tokens, rho, accuracy, status FROM run_view"
    facts = {row["run_id"]: row for row in store.sql(query, runs=list(found)).to_pylist()}
    begun = [run for run in found if facts[run]["n_samples"]]
    selection = select_runs(store, references) if begun else None
    groups = [(each.title, list(each.runs), each.labels) for each in (selection.comparisons if selection else ())]
    grouped = {run for _, runs, _ in groups for run in runs}
    if selection is not None:
        alone = [run for run in selection.whole if run not in grouped]
        groups.insert(0, ("Base rollouts and others", alone, selection.labels))
        groups.append(("Continuations of samples", selection.of_programs("counterfactual"), selection.labels))
    if empty := [run for run in found if not facts[run]["n_samples"]]:
        groups.append(("Without samples", empty, found))
    return [_runs_table(title, [facts[run] for run in runs], labels) for title, runs, labels in groups if runs]


def _runs_table(title: str, facts: Sequence[Mapping[str, Any]], labels: Mapping[str, str]) -> Table:
    rows = [{**row, "run": labels[row["run_id"]]} for row in facts]
    # before all numbers: a terminal leaves out columns from the right
    status = [Column("status")] if any(row["status"] != "finished" for row in rows) else []
    columns = [Column("run_id"), Column("run", "what"), *status, Column("rho"), Column("accuracy")]
    return Table(
        "runs", title, pa.Table.from_pylist(rows), [*columns, Column("n_samples", "samples"), Column("n_tokens", "tokens")]
    )


def list_samples(store: Store, references: Sequence[str] = (), which: SampleFilter | None = None) -> Table:
    """Samples of runs, those whose takeovers changed most tokens first; put right or spoilt where a base run tells.

    Raises:
        UsageError: a reference matches no run, no run has samples, or flips are asked for without a base run.
    """
    which = which or SampleFilter()
    selection = select_runs(store, references)
    base_of = _base_runs(store, selection)
    if which.flipped and not base_of:
        raise UsageError(
            "Flips are counted against a base run with one sample of each of the same problems, and there is none.",
            "Run it: rrti run base.",
        )
    query = """
        SELECT s.sample_id, s.run_id, s.problem_id, s.n_tokens, s.n_takeovers, s.n_changed, s.answer, s.gold, s.correct,
               base.correct AS base_correct, count(*) OVER () AS n_found
        FROM sample_view AS s
        LEFT JOIN (SELECT unnest($ids) AS run_id, unnest($bases) AS base_run) AS of USING (run_id)
        LEFT JOIN samples AS base
            ON base.run_id = of.base_run AND base.problem_id = s.problem_id AND base.sample_index = s.sample_index
        WHERE s.run_id IN (SELECT unnest($runs)) AND s.n_takeovers >= $takeovers AND starts_with(s.problem_id, $problem)
          AND ($verdict IS NULL OR $verdict = if(s.correct IS NULL, 'ungraded', if(s.correct, 'right', 'wrong')))
          AND (NOT $flipped OR s.correct <> base.correct)
        ORDER BY s.n_changed DESC, s.n_takeovers DESC, s.run_id, s.sample_id LIMIT $limit
    """
    values = {"runs": selection.ids, "ids": [*base_of], "bases": [*base_of.values()], "takeovers": which.takeovers}
    values |= {"problem": which.problem, "verdict": which.verdict, "flipped": which.flipped, "limit": which.limit}
    found = store.sql(query, values).to_pylist()
    rows = [{**row, "run": selection.labels[row["run_id"]], "verdict": _verdict(row)} for row in found]
    several = len(selection.ids) > 1
    columns = [
        *(Column("sample_id", "sample"), *([Column("run")] if several else []), Column("verdict", "")),
        *(Column("n_takeovers", "takeovers"), Column("n_changed", "changed"), Column("answer"), Column("gold")),
        *(Column("n_tokens", "tokens"), Column("problem_id", "problem")),
    ]
    of = "" if several else f" of {selection.labels[selection.ids[0]]}"
    shown = f"{len(rows)} of {COUNT.text(rows[0]['n_found'] if rows else 0)} samples{of}"
    data = pa.Table.from_pylist(rows) if rows else pa.table({column.name: pa.array([], pa.string()) for column in columns})
    return Table("samples", shown, data, columns)


def _base_runs(store: Store, selection: RunSelection) -> dict[str, str]:
    """The base run that each run can be compared with, among all of the store."""
    return {
        run: comparison.base
        for comparison in select_runs(store).comparisons
        if comparison.n_samples == 1
        for run in comparison.runs
        if comparison.base is not None and run != comparison.base and run in selection.ids
    }


def _verdict(row: Mapping[str, Any]) -> str:
    said = {True: "right", False: "wrong", None: "ungraded"}[row["correct"]]
    return _FLIPS.get((row["base_correct"], row["correct"]), said)


def compare_runs(store: Store, first: str, second: str, limit: int = 10) -> list[Table]:
    """Two runs side by side: what each is and achieves, the difference, and the samples whose verdicts differ.

    Args:
        store: where they are.
        first, second: run ids, prefixes of them or programs, the newest of these.
        limit: so many samples at most.

    Raises:
        UsageError: no such run, one run twice, or runs that do not decode the same problems alike.
    """
    one, other = (store.find_runs(reference)[-1].run_id for reference in (first, second))
    if one == other:
        raise UsageError(f"{first!r} and {second!r} are the same run, {one}.", "Name two; `rrti runs` lists them.")
    flips = run_query(store, "flips", run=[other], base=one).to_pylist()[-1]
    labels = select_runs(store, [one, other]).labels
    rows = {row["run_id"]: row for row in run_query(store, "accuracy", run=[one, other]).to_pylist()}
    kinds: Sequence[tuple[str, str, Kind]] = (
        *(("rho_pooled", "rho", RATE), ("changed", "changed", RATE), ("accuracy", "accuracy", SHARE)),
        *(("pass_at_k", f"pass@{rows[one]['k']}", SHARE), ("truncated", "cut off", SHARE)),
    )
    facts = [
        {"": label, "first": kind.text(rows[one][name]), "second": kind.text(rows[other][name])}
        for name, label, kind in kinds
        if name != "pass_at_k" or rows[one]["k"] > 1
    ]
    title = f"{labels[one]} and {labels[other]}"
    columns = [Column(""), Column("first", one), Column("second", other)]
    paired = flips["both_right"] is not None
    return [
        Table("compared", title, pa.Table.from_pylist(facts), columns),
        _difference(flips),
        (_differing if paired else _moved)(store, one, other, limit),
    ]


def _difference(row: Mapping[str, Any]) -> Table:
    columns = [Column("n_problems", "problems"), Column("rose", "put right"), Column("fell", "spoilt")]
    columns += [Column("difference", "points"), *([Column("p_exact", "McNemar p")] if row["p_exact"] is not None else [])]
    return Table("difference", "The second less the first, on the same problems", pa.Table.from_pylist([row]), columns)


def _differing(store: Store, one: str, other: str, limit: int) -> Table:
    """Pairs of samples of which one is right, those with the fewest changed tokens first."""
    query = """
        SELECT if(b.correct, 'put right', 'spoilt') AS verdict, a.sample_id AS first, b.sample_id AS second,
               a.answer AS first_says, b.answer AS second_says, a.gold, b.n_changed, a.problem_id
        FROM sample_view AS a JOIN sample_view AS b USING (problem_id)
        WHERE a.run_id = $one AND b.run_id = $other AND a.correct <> b.correct
        ORDER BY verdict DESC, b.n_changed, a.problem_id
    """
    found = store.sql(query, {"one": one, "other": other}, runs=[one, other])
    columns = [Column("verdict", ""), *map(Column, ("first", "second", "first_says", "second_says", "gold"))]
    columns.append(Column("n_changed", "changed"))
    title = f"{min(limit, len(found))} of {COUNT.text(len(found))} samples that only one of them has right"
    return Table("differing", title, found.slice(0, limit), columns)


def _moved(store: Store, one: str, other: str, limit: int) -> Table:
    """Problems by how much the share of right samples differs, with a sample of the second to look at."""
    query = """
        WITH shares AS (
            SELECT problem_id, run_id, avg(correct::INTEGER) AS share, arg_max(sample_id, n_changed) AS sample_id
            FROM samples WHERE run_id IN ($one, $other) AND correct IS NOT NULL GROUP BY ALL
        )
        SELECT b.sample_id AS second, a.problem_id, a.share AS first_right, b.share AS second_right
        FROM shares AS a JOIN shares AS b USING (problem_id)
        WHERE a.run_id = $one AND b.run_id = $other AND a.share <> b.share
        ORDER BY abs(b.share - a.share) DESC, problem_id
    """
    found = store.sql(query, {"one": one, "other": other}, runs=[one, other])
    columns = [Column("problem_id", "problem"), Column("first_right", kind=SHARE), Column("second_right", kind=SHARE)]
    title = f"{min(limit, len(found))} of {COUNT.text(len(found))} problems with another share of right samples"
    return Table("moved", title, found.slice(0, limit), [*columns, Column("second", "a sample of the second")])
