"""Which runs a report is of, what each is called in it, and which of them may be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.tables.numbers import COUNT, LEVEL, SETTING
from rrti_sgl.programs.tables.safe_text import one_line
from rrti_sgl.records import RunRecord

LONGEST_NAME = 80  # of a problem set in names of files
_ARMS = """
    SELECT DISTINCT run_id FROM samples JOIN runs USING (run_id)
    WHERE list_contains($runs, run_id) AND arm IS NOT NULL AND correct IS NOT NULL
        AND (COALESCE(json_extract_string(config, '$.arms.unit'), 'token') = 'pivotal') = $searches
"""
# Programs whose samples are whole solutions of their own; a counterfactual run continues samples of another.
_ROLLOUTS = ("diagnose", "base")
# Options by which a program is of several kinds; the usual one is not in the configuration.
_KINDS = (("matched", "match"), ("deferral", "deferral"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs of the same models on the same problems under the same sampling, in the order in which they were made.

    Args:
        name: stem for files, such as "world-heldout-200x1".
        title: what is compared, in words.
        runs: their ids.
        labels: what each is called among them, by id.
        base: id of the newest run of the model that writes alone, if there is one: the base model, in exchanged roles the
            reasoning model. Where these runs have none it is that of the other direction.
        reasoning: id of the newest run of its guest alone, likewise.
        n_problems, n_samples: problems, and samples of each.
        mirror: place among the comparisons of the same in the other direction; None: there is none.
        exchanged: whether the roles are exchanged.
    """

    name: str
    title: str
    runs: Sequence[str]
    labels: Mapping[str, str]
    base: str | None
    reasoning: str | None
    n_problems: int
    n_samples: int
    mirror: int | None = None
    exchanged: bool = False


@dataclass(frozen=True, slots=True)
class RunSelection:
    """The runs of a report.

    Args:
        records: the runs, oldest first.
        labels: what each is called, by id; no two are called the same.
        comparisons: the groups of runs that can be compared.
    """

    records: Sequence[RunRecord]
    labels: Mapping[str, str]
    comparisons: Sequence[Comparison]

    @property
    def ids(self) -> list[str]:
        """All run ids."""
        return [run.run_id for run in self.records]

    @property
    def whole(self) -> list[str]:
        """Ids of the runs whose samples are whole solutions: those of a counterfactual run continue one."""
        return [run.run_id for run in self.records if run.program != "counterfactual"]

    def of_programs(self, *programs: str) -> list[str]:
        """Ids of the runs of some programs."""
        return [run.run_id for run in self.records if run.program in programs]

    @property
    def rollouts(self) -> list[str]:
        """Ids of the base rollouts that both models scored.

        Raises:
            UsageError: there are none.
        """
        found = [run.run_id for run in self.records if run.program in _ROLLOUTS and run.metric is not None]
        if not found:
            raise UsageError(
                "There are no base rollouts that both models scored among the runs.", "Make one: rrti run diagnose."
            )
        return found


def runs_of(store: Store, references: Sequence[str] = ()) -> list[RunRecord]:
    """The runs of some ids, prefixes or program names; all of them when none is named.

    Raises:
        UsageError: a reference matches nothing.
    """
    wanted: Sequence[str | None] = references or [None]
    return [run for reference in wanted for run in store.find_runs(reference)]


def select_runs(store: Store, references: Sequence[str] = ()) -> RunSelection:
    """The runs of some ids, prefixes or program names; all of them when none is named. Runs without samples are left out.

    Raises:
        UsageError: a reference matches nothing, or there is no run with samples.
    """
    named = {run.run_id: run for run in runs_of(store, references)}
    query = "SELECT run_id FROM run_view WHERE n_samples > 0 ORDER BY created_at, run_id"
    counted = store.sql(query, runs=list(named))["run_id"].to_pylist()
    records = [named[run] for run in counted if run in named]
    if not records:
        raise UsageError(
            "None of the runs has samples to report on.", "Run something first: rrti demo, or rrti run diagnose."
        )
    return RunSelection(records, _labels(records), _comparisons(store, records))


def kind_of(run: RunRecord) -> str:
    """Its program, and of which kind where a program is of several."""
    if run.program == "matched":
        return f"matched by {_options(run).get('match', 'position')}"
    return f"deferral by {_options(run).get('deferral', 'its rule')}" if run.program == "deferral" else run.program


def followed_by(run: RunRecord) -> str:
    """Id of the run that it takes over as often as, to tell what the choice of the tokens is worth; empty: none."""
    return str(_options(run).get("like") or "")


def called(row: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """What the run of a statistic's row is called; a row of several seeds by their program and number."""
    if row.get("part") == "seeds":
        return f"{row['program']}, mean of {row['n_seeds']} seeds ({row['group_id']})"
    return labels.get(row["run_id"], str(row["run_id"]))


def leading_guided(selection: RunSelection, comparison: Comparison) -> str | None:
    """The guided run of the largest tau-only budget: without the lambda condition, of equal ones the last."""
    guided = [run for run in selection.records if run.run_id in comparison.runs and run.program == "guided"]
    plain = [run for run in guided if run.lambda_ is None] or guided
    return min(plain, key=lambda run: run.tau if run.tau is not None else float("inf")).run_id if plain else None


def _labels(records: Sequence[RunRecord]) -> dict[str, str]:
    """Program and the options that tell it from others; where that does not suffice, what else differs; at last the id."""
    labels = {run.run_id: one_line(_gate_label(run)) for run in records}

    def followed_label(run: RunRecord) -> str:
        """What tells the run that this one is like from others of its program."""
        followed = labels.get(followed_by(run), "any run")
        return f"as {followed.removeprefix('guided ').removeprefix('exchanged ')}"

    descriptions: Sequence[Callable[[RunRecord], str]] = (
        followed_label,
        lambda run: run.problem_set,
        _models_label,
        _sampling_label,
        lambda run: f"seed {run.seed}",
        lambda run: run.run_id[-4:],
    )
    for describe in descriptions:
        alike: dict[str, list[RunRecord]] = {}
        for run in records:
            alike.setdefault(labels[run.run_id], []).append(run)
        for label, same in alike.items():
            texts = [one_line(describe(run)) for run in same]
            if len(set(texts)) > 1:
                labels |= {run.run_id: f"{label}, {text}" for run, text in zip(same, texts, strict=True)}
    return labels


def _gate_label(run: RunRecord) -> str:
    gate = _options(run)
    parts = [run.program, *(["exchanged"] if run.config.get("exchanged") else [])]
    parts += [str(gate[name]) for program, name in _KINDS if run.program == program and name in gate]
    if unit := (run.config.get("arms") or {}).get("unit"):
        parts.append(unit)
    if followed_by(run):
        parts.append("at equal ρ")
    elif run.program in ("random", "early") and gate.get("budget") is not None:
        parts.append(LEVEL.text(gate["budget"]))
    elif gate.get("spike_ratio") is not None and run.tau is not None:
        parts.append(f"r={SETTING.text(gate['spike_ratio'])}")
    elif run.tau is not None and run.program != "reasoning":
        parts.append(f"τ={SETTING.text(run.tau)}")
    if run.lambda_ is not None:
        parts.append(f"λ ({run.warmup})")
    parts += [f"{name} {run.gate_params[name]}" for name in ("rolling", "cooldown") if run.gate_params.get(name)]
    if "entropy_tau" in run.gate_params:
        parts.append(f"H>{SETTING.text(run.gate_params['entropy_tau'])}")
    if run.program == "guided" and run.metric not in (None, "ce"):
        parts.append(str(run.metric))
    return " ".join(parts)


def _options(run: RunRecord) -> Mapping[str, Any]:
    """The options of its gate, as its configuration holds them."""
    return run.config.get("gate") or {}


def _models_label(run: RunRecord) -> str:
    return " + ".join((name or "none").rpartition("/")[2] for name in (run.base_model, run.reasoning_model))


def _sampling_label(run: RunRecord) -> str:
    drawn = f"T={SETTING.text(run.temperature)}" if run.temperature else "greedy"
    return f"{drawn}, {run.n_problems}×{run.samples_per_problem}"


def _comparisons(store: Store, records: Sequence[RunRecord]) -> list[Comparison]:
    """Groups of runs that are of the same models, problems and sampling; a run alone is a group too."""
    query = "SELECT run_id, problems, n_problems FROM run_totals WHERE n_problems > 0"
    covered = {row["run_id"]: row for row in store.sql(query, runs=[run.run_id for run in records]).to_pylist()}
    groups: dict[tuple[Any, ...], list[RunRecord]] = {}
    for run in records:
        if run.run_id in covered and run.program != "diagnose":
            sampling = (run.temperature, run.top_p, run.max_new_tokens, run.samples_per_problem)
            models = (run.base_model, run.reasoning_model, run.tokenizer_hash)
            key = (*models, run.problem_set, covered[run.run_id]["problems"], *sampling)
            groups.setdefault(key, []).append(run)
    keys, names, found = list(groups), Counter[str](), []
    for key, group in groups.items():
        base, reasoning, *rest = key
        other = groups.get((reasoning, base, *rest), []) if base != reasoning else []
        comparison = _comparison(group, other, covered[group[0].run_id])
        names[comparison.name] += 1
        number = names[comparison.name]
        name = comparison.name + (f"-{number}" if number > 1 else "")
        found.append(replace(comparison, name=name, mirror=keys.index((reasoning, base, *rest)) if other else None))
    return found


def _comparison(runs: Sequence[RunRecord], other: Sequence[RunRecord], covered: Mapping[str, Any]) -> Comparison:
    first, n_problems = runs[0], int(covered["n_problems"])
    n_samples = first.samples_per_problem
    sampling = f"temperature {SETTING.text(first.temperature)}" if first.temperature else "greedy"
    counted = f"{COUNT.text(n_problems)} problems of {first.problem_set}"
    title = f"{counted}, {sampling}" + (f", {n_samples} samples each" if n_samples > 1 else "")
    exchanged = bool(first.config.get("exchanged"))
    named = f"{first.problem_set[:LONGEST_NAME]} {n_problems}x{n_samples}{' exchanged' if exchanged else ''}"
    name = "".join(c if c.isalnum() else "-" for c in named)
    title += ", exchanged roles" if exchanged else ""
    alone = {"base": "reasoning", "reasoning": "base"}
    ends = {alone[run.program]: run for run in other if run.program in alone}
    ends |= {run.program: run for run in runs if run.program in alone}
    labels = _labels([*runs, *(run for run in ends.values() if run not in runs)])
    base, reasoning = (ends[end].run_id if end in ends else None for end in alone)
    ids = [run.run_id for run in runs]
    return Comparison(name, title, ids, labels, base, reasoning, n_problems, n_samples, exchanged=exchanged)


def with_arms(store: Store, runs: Sequence[str], *, searches: bool) -> list[str]:
    """Those of some runs whose graded samples continue others: of searches for pivotal tokens, or of single units."""
    found = store.sql(_ARMS, {"runs": [*runs], "searches": searches})["run_id"].to_pylist()
    return [run for run in runs if run in found]
