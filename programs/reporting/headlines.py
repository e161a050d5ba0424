"""What a statistic says in a table that fits a terminal; `rrti stats NAME` prints it, `--full` everything there is.

A headline is of the runs that a report takes for the statistic, and calls them as the report does: base rollouts for the
diagnosis, each group of runs that can be compared for what takeovers achieve. The columns that say most come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from rrti_sgl.db.queries import find_query, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import wide
from rrti_sgl.programs.reporting.runs import RunSelection, called, leading_guided, select_runs, with_arms
from rrti_sgl.programs.tables.accuracy import accuracy_table
from rrti_sgl.programs.tables.numbers import COEFFICIENT, LEVEL, NUMBER, SHARE
from rrti_sgl.programs.tables.table import BOUNDS, PARTS, Column, Table

S = TypeVar("S")
T = TypeVar("T")
Row = Mapping[str, Any]
RUN = Column("run")
NEED_GROUPS = ("flips", "ablation")  # cannot be made of runs that do not belong together


@dataclass(frozen=True, slots=True)
class Headline:
    """What is shown of a statistic.

    Args:
        make: the table of its rows, which have the label of their run as `run`; name and title are given later.
        programs: of whose runs it is; empty: of the base rollouts that both models scored.
        compared: a table for each group of runs that can be compared.
        ends: what the statistic measures from or to, of those that a comparison knows.
        params: in place of the statistic's defaults.
        notes: under the table.
        together: made of all runs at once, because its rows are of several.
        choose: which of these runs, where that is not told by their program.
    """

    make: Callable[[Sequence[Row]], Table]
    programs: Sequence[str] = ()
    compared: bool = False
    ends: Sequence[str] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    together: bool = False
    choose: Callable[[Store, Sequence[str]], Sequence[str]] = lambda store, runs: runs


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that stand in one table: ids (none where the statistic finds them), labels, and parameters that name some."""

    title: str
    runs: Sequence[str]
    labels: Mapping[str, str]
    params: Mapping[str, Any]


def headline(store: Store, name: str, references: Sequence[str] = (), **params: Any) -> list[Table]:
    """The tables of a statistic that fit a terminal: one, or one for each group of runs that can be compared.

    Args:
        store: where the runs are.
        name: of the statistic.
        references: run ids, prefixes of them or programs; none takes the runs that a report takes.
        **params: in place of the statistic's defaults.

    Raises:
        UsageError: as `run_query`.
    """
    query = find_query(name)
    shown = HEADLINES[query.name]

    def table(group: Group) -> Table:
        given = {**shown.params, **group.params, **params}
        if references or shown.compared or shown.together or not group.runs:
            data = run_query(store, name, run=[*group.runs] or None, **given)
        else:  # of those that nobody named, the ones that have what it needs
            found = _of_each(group.runs, lambda run: run_query(store, name, run=[run], **given))
            data = pa.concat_tables(found, promote_options="default")
        rows = [{**row, **_called(row, group.labels)} for row in data.to_pylist()]
        return _drawn(shown.make(rows), name, group.title, shown.notes)

    first, *others = _of_each(_groups(store, name, references, params), table)
    return [replace(first, title="\n".join(filter(None, [query.question, first.title]))), *others]


def _called(row: Row, labels: Mapping[str, str]) -> dict[str, str]:
    """What the run of a row is called, and the one that its threshold is from."""
    source = row.get("from_run_id")
    return {"run": called(row, labels), **({} if source is None else {"from": labels.get(source, source)})}


def everything(store: Store, name: str, references: Sequence[str] = (), **params: Any) -> pa.Table:
    """All rows of a statistic; what compares runs is made of each group of runs that can be compared.

    Raises:
        UsageError: as `run_query`.
    """
    if name not in NEED_GROUPS:
        return run_query(store, name, run=[*references] or None, **params)
    found = _of_each(
        _groups(store, name, references, params),
        lambda group: run_query(store, name, run=[*group.runs] or None, **{**group.params, **params}),
    )
    return pa.concat_tables(found, promote_options="default")


def _of_each(sources: Iterable[S], make: Callable[[S], T]) -> list[T]:
    """What can be made of some sources; where nothing can, the first reason is the error."""
    made, reasons = [], []
    for source in sources:
        try:
            made.append(make(source))
        except UsageError as error:
            reasons.append(error)
    if not made:
        raise reasons[0] if reasons else UsageError("There are no runs of whole solutions.", "Make one: rrti run base.")
    return made


def _groups(store: Store, name: str, references: Sequence[str], params: Mapping[str, Any]) -> Iterator[Group]:
    """The runs of each table, with the ends that the comparison knows."""
    shown, selection = HEADLINES[find_query(name).name], select_runs(store, references)
    if not references and set(params) & {"base", "reasoning", "guided"}:
        yield Group("", [], selection.labels, {})  # what can be compared with these
        return
    if not shown.compared or set(params) & {"base", "reasoning", "guided"}:
        yield Group("", selection.ids if references else shown.choose(store, _usual(selection, shown)), selection.labels, {})
        return
    for comparison in selection.comparisons:
        taken = selection.of_programs(*shown.programs) if shown.programs else comparison.runs
        known = {"base": comparison.base, "reasoning": comparison.reasoning, "guided": leading_guided(selection, comparison)}
        ends = {name: run for name in shown.ends if (run := known[name]) is not None}
        yield Group(comparison.title, [run for run in comparison.runs if run in taken], comparison.labels, ends)


def _usual(selection: RunSelection, shown: Headline) -> Sequence[str]:
    """The runs where none is named; none leaves them to the statistic."""
    if shown.programs:
        return selection.of_programs(*shown.programs)
    try:
        return selection.rollouts
    except UsageError:
        return ()


def _drawn(table: Table, name: str, title: str, notes: Sequence[str]) -> Table:
    """The table without columns that say nothing, and with a run that all rows share in its title."""
    names = [column.name for column in table.columns if column.name in table.data.column_names]
    empty = {column for column in names if table.data[column].null_count == len(table.data)}
    runs = set(table.data["run"].to_pylist()) if "run" in table.data.column_names else set()
    shared = len(runs) == 1 < len(table)
    columns = [c for c in table.columns if c.name in names and c.name not in empty and not (shared and c.name == "run")]
    ruled = "run" if 1 < len(runs) < len(table) else None
    title = f"run: {runs.pop()}" if shared else title
    return replace(table, name=name, title=title, columns=columns, notes=[*table.notes, *notes], rule_by=ruled)


def _table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    return Table("", "", pa.Table.from_pylist([*rows]), columns)


def _accuracy(rows: Sequence[Row]) -> Table:
    """As the demonstration shows it, the column that can be spared last."""
    table = accuracy_table("", rows, [row["run"] for row in rows])
    return replace(table, columns=sorted(table.columns, key=lambda column: column.name == "changed"))


def _rows(*columns: Column, keep: Callable[[Row], bool] = lambda row: True) -> Callable[[Sequence[Row]], Table]:
    """Some rows as they are."""

    def make(rows: Sequence[Row]) -> Table:
        return _table([row for row in rows if keep(row)] or rows, columns)

    return make


def _wide(
    *keys: Column, column_of: Callable[[Row], Column | None], value: str = "value", bounds: Sequence[str] = BOUNDS
) -> Callable[[Sequence[Row]], Table]:
    """A row for each value of the keys, and a column for each number that `column_of` names."""

    names = [*(key.name for key in keys), *PARTS]

    def make(rows: Sequence[Row]) -> Table:
        told, columns = [], {}
        for row in rows:
            if (column := column_of(row)) is not None:
                told.append({**row, "named": column.name})
                columns[column.name] = column
        there = [name for name in names if name in told[0]]
        data = wide(told, there, lambda row: str(row["named"]), value, bounds)
        return Table("", "", data, [*keys, *columns.values()])

    return make


def _sparsity(row: Row) -> Column | None:
    match row["statistic"]:
        case "gini":
            return Column("gini", "Gini", COEFFICIENT)
        case "tokens_carrying":
            return Column(f"carrying {row['level']}", f"tokens with {LEVEL.text(row['level'])} of it", SHARE)
        case "carried_by_top":
            return Column(f"top {row['level']}", f"in the top {LEVEL.text(row['level'])}", SHARE)
    return None


def _sets(rows: Sequence[Row]) -> Table:
    """Sets of tokens, each once: those of all tokens and of base entropy stand beside every metric."""
    names = {
        "all": "all",
        "top_metric": "top p by {metric}",
        "top_entropy": "top p by base entropy",
        "takeovers": "takeovers",
    }
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if row["part"] == "planning" and row["within"] != "sample" and row["n_tokens"]:
            named = names[row["tokens"]].format(metric=row["metric"])
            kept.setdefault((row["run"], named), {**row, "set": named})
    runs, order = [*dict.fromkeys(row["run"] for row in rows)], [*names]
    chosen = sorted(kept.values(), key=lambda row: (runs.index(row["run"]), order.index(row["tokens"])))
    columns = (Column("set", "tokens"), Column("n_tokens", "n"), Column("share", "planning words"))
    return _table(chosen, [RUN, *columns, Column("odds_over_all", "odds over all")])


def _curves(rows: Sequence[Row]) -> Table:
    """Budgets, the run without takeovers once."""
    several = [row for place, row in enumerate(rows) if row["rho"] or row["run"] not in [r["run"] for r in rows[:place]]]
    more = [Column("pass_at_k", f"pass@{rows[0]['k']}")] if rows[0]["k"] > 1 else []
    more += [Column("knee")] if any(row["knee"] for row in rows) else []
    return _table(several, [RUN, Column("rho"), Column("accuracy"), *more])


def _threshold(row: Row) -> Column | None:
    return Column(row["quantity"], kind=NUMBER) if row["part"] == "stored" else None


def _anatomy(row: Row) -> Column | None:
    shown = {("choice", "changed"): "changed the token", ("choice", "agreed"): "agreed", ("run", "1"): "single"}
    label = shown.get((row["part"], row["label"]))
    return None if label is None else Column(label, kind=SHARE)


def _cost(row: Row) -> Column | None:
    shown = ("base calls", "reasoning calls", "drafted tokens", "discarded tokens", "wall ms")
    return Column(row["quantity"], kind=NUMBER) if row["quantity"] in shown else None


def _planted(row: Row) -> Column | None:
    return Column("auroc", "AUROC", COEFFICIENT) if row["part"] == "ranking" else None


_TRANSFER = _rows(
    *(Column("from", "threshold of"), replace(RUN, label="used on"), Column("spike_ratio")),
    *(Column("rate", "tokens above"), Column("orders"), Column("tau", kind=NUMBER)),
    keep=lambda row: row["from_run_id"] != row["run_id"],
)


def _transfer(rows: Sequence[Row]) -> Table:
    """Runs by their problem sets alone, where that tells them apart: both names leave little of a terminal to numbers."""
    sets = {row["run_id"]: row["problem_set"] for row in rows}
    if len(set(sets.values())) == len(sets):
        rows = [{**row, "run": row["problem_set"], "from": row["from_problem_set"]} for row in rows]
    return _TRANSFER(rows)


_TAKING = ("guided", "entropy", "deferral", "random", "matched", "early", "oracle", "relay")
HEADLINES: Mapping[str, Headline] = {
    "sparsity": Headline(
        _wide(RUN, Column("metric"), column_of=_sparsity),
        params={"carried": [0.8], "top": [0.01]},
        notes=["tokens with 80% of it: the smallest share of the tokens that carries 80 % of the disagreement."],
    ),
    "position": Headline(
        _rows(
            *(RUN, Column("metric"), Column("u_high", "in the first", LEVEL), Column("share_all", "of all tokens")),
            *(Column("share_top", "of the top p"), Column("density_ratio", "ratio")),
            keep=lambda row: row["part"] == "within" and row["within"] == "run",
        ),
        notes=["top p: the 1 % of largest disagreement, or what p is set to."],
    ),
    "uncertainty": Headline(
        _rows(
            *(RUN, Column("metric"), Column("p"), Column("iou", "IoU with base entropy"), Column("iou_chance", "by chance")),
            keep=lambda row: row["part"] == "overlap" and row["within"] == "run",
        ),
        params={"ps": [0.01, 0.05, 0.1]},
        notes=["IoU: tokens in both top-p sets over tokens in either."],
    ),
    "planning": Headline(_sets, notes=["top p: the 1 % of largest value, or what p is set to."]),
    "failure": Headline(
        _rows(
            *(RUN, Column("predictor"), Column("auroc", "AUROC"), Column("top_k", "K")),
            *(Column("n_wrong", "wrong"), Column("n_samples", "of samples")),
        ),
        notes=["Predictor: mean of the K largest values of a sample, or of all where it has fewer."],
    ),
    "accuracy": Headline(_accuracy, compared=True, ends=("base", "reasoning")),
    "flips": Headline(
        _rows(
            *(RUN, Column("rose", "put right"), Column("fell", "spoilt"), Column("difference", "points")),
            Column("p_exact", "McNemar p"),
        ),
        compared=True,
        ends=("base",),
    ),
    "budget": Headline(_curves, compared=True),
    "ablation": Headline(
        _rows(
            *(RUN, Column("accuracy_over_base", "over base, points")),
            *(Column("accuracy_over_guided", "over guided, points"), Column("rho")),
        ),
        compared=True,
        ends=("base", "reasoning", "guided"),
    ),
    "calibration": Headline(
        _wide(Column("metric"), Column("spike_ratio"), Column("n_tokens", "tokens"), column_of=_threshold),
        programs=("diagnose", "base"),
        params={"resamples": 0},
    ),
    "transfer": Headline(
        _transfer,
        together=True,
        notes=["orders: of magnitude, log10 of the threshold over the one that the tokens give themselves."],
    ),
    "takeovers": Headline(_wide(RUN, column_of=_anatomy, value="share", bounds=()), programs=_TAKING, compared=True),
    "reallocation": Headline(
        _rows(
            *(RUN, Column("label", "takeovers"), Column("n"), Column("first", "rank 1"), Column("five", "rank 1-5")),
            *(Column("host_probability", "host gave it"), Column("tv", "mass moved")),
            keep=lambda row: row["part"] == "takeovers",
        ),
        programs=_TAKING,
        notes=["rank: of the guest's token in the list of the model that writes. mass moved: total variation."],
    ),
    "metrics": Headline(
        _rows(
            *(
                RUN,
                Column("metric_a", "metric"),
                Column("metric_b", "and"),
                Column("spearman"),
                Column("iou", "IoU of top p"),
            ),
            Column("iou_chance", "by chance"),
            keep=lambda row: row["part"] == "metrics",
        ),
        notes=["top p: the 5 % of largest value, or what p is set to."],
    ),
    "cost": Headline(
        _wide(RUN, column_of=_cost, value="per_token", bounds=()), compared=True, notes=["Per generated token."]
    ),
    "planted": Headline(
        _wide(RUN, Column("metric"), Column("n_planted", "planted"), column_of=_planted, value="auroc"),
    ),
    "causality": Headline(
        _rows(
            *(RUN, Column("unit"), Column("n_units", "units"), Column("taken"), Column("denied"), Column("effect")),
            Column("necessary"),
            Column("answers", "answers apart"),
            keep=lambda row: row["part"] == "all",
        ),
        programs=("counterfactual",),
        together=True,
        choose=partial(with_arms, searches=False),
    ),
    "pivotal": Headline(
        _rows(
            *(RUN, Column("label", "tokens"), Column("n_tokens", "of"), Column("n_pivotal", "n"), Column("pivotal")),
            *(Column("lead"), Column("control", "at the same place")),
            keep=lambda row: row["part"] in ("all", "fired") or (row["part"], row["decile"]) == ("decile", 10),
        ),
        programs=("counterfactual",),
        together=True,
        choose=partial(with_arms, searches=True),
        notes=[
            "pivotal: the share of right solutions jumps there. lead: pivotal less others of that tenth of the solution."
        ],
    ),
}
