"""Points of statistics lead to the very tokens that they count."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest

from rrti_sgl.db.queries import run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer import aggregates
from rrti_sgl.programs.explorer.aggregates import SHARES, Aggregates
from rrti_sgl.programs.explorer.asked import StatisticAsked
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.tables.numbers import MINUS, NUMBER
from tests.db.conftest import make_problem, make_run, make_trace

WORDS = [" then", " So", "wait", " 7", " add", "\tthen\n"]


@pytest.fixture(scope="module")
def explorer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Explorer]:
    """A diagnose run of some size with tied scores, a guided one, and arms of some of its positions."""
    draws = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("statistics") / "traces.duckdb"
    with Store.open(path) as store:
        store.add_problems([make_problem(f"p{i:02d}") for i in range(30)])
        none = {"gate": "never", "tau": None}
        for program, gate in (("diagnose", none), ("base", none), ("guided", {"gate": "divergence"})):
            store.begin_run(make_run(f"{program}-1", program=program, n_problems=30, samples_per_problem=1, **gate))
            traces = []
            for i in range(30):
                n = int(draws.integers(20, 61))
                ce = draws.exponential(size=n).round(1)
                fired = (ce > 3) & (program == "guided")
                words = np.where(ce > 3, draws.integers(0, 3, n), draws.integers(0, 6, n))
                tokens = {
                    "token_text": [WORDS[w] for w in words],
                    "planning_tag": ["plan" if w < 3 else None for w in words],
                    "entropy_base": ce / 2,
                    "fired": fired.tolist(),
                    "source": np.where(fired, "reasoning", "base").tolist(),
                    "base_token_id": np.arange(n, dtype=np.int32) + 10 + fired,
                }
                traces.append(
                    make_trace(f"{program}-1", f"p{i:02d}", 0, ce, correct=bool(draws.random() < 0.5), tokens=tokens)
                )
            store.write_samples(traces)
        store.begin_run(make_run("counterfactual-1", program="counterfactual", config={"kind": "counterfactual"}))
        arms = [
            make_trace(
                "counterfactual-1", parent.sample.problem_id, 2 * at + (arm == "denied"), [0.5, 0.1],
                correct=(arm == "taken") == (at < 9), arm=arm, parent_sample_id=parent.sample.sample_id, parent_position=at,
            )
            for parent in traces[:4] for at in range(12) for arm in ("taken", "denied")
        ]  # fmt: skip
        store.write_samples(arms)
        for run in ("diagnose-1", "base-1", "guided-1", "counterfactual-1"):
            store.finish_run(run, "finished")
    with Store.open_readonly(path) as store, Explorer(store) as explorer:
        yield explorer


def behind(explorer: Explorer, tokens: dict[str, Any]) -> list[dict[str, Any]]:
    """The tokens of a point, as the page asks for them."""
    query = {name: [str(value).lower() if isinstance(value, bool) else str(value)] for name, value in tokens.items()}
    found: list[dict[str, Any]] = explorer.answer("tokens", query | {"limit": ["1000"]})
    return found


def test_they_are_those_that_the_store_can_show(explorer: Explorer) -> None:
    assert explorer.info()["statistics"] == ["budget", "position", "planning", "causality"]


@pytest.mark.parametrize("run", [None, "diagnose-1"])
def test_a_bin_of_positions_has_the_tokens_of_its_top_set(run: str | None, explorer: Explorer) -> None:
    told = explorer.answer("statistics/position", {} if run is None else {"run": [run]})
    assert told["run"] == "diagnose-1"
    rows = run_query(explorer.store, "position", run=["diagnose-1"], metric="ce").to_pylist()
    rows = [row for row in rows if (row["part"], row["within"]) == ("density", "run")]
    assert [(point["y"], point["low"], point["high"]) for point in told["points"]] == [
        (row["density_top"], row["density_top_low"], row["density_top_high"]) for row in rows
    ]
    sizes = [len(behind(explorer, point["tokens"])) for point in told["points"]]
    assert sizes == [row["n_top"] for row in rows] == [point["n"] for point in told["points"]]
    assert sum(sizes) > 10


def test_a_word_has_its_tokens_of_the_top_set(explorer: Explorer) -> None:
    told = explorer.answer("statistics/planning", {"run": ["guided-1"]})
    assert {point["label"] for point in told["points"]} <= {"then", "so", "wait"}
    assert told["points"]
    for point in told["points"]:
        found = behind(explorer, point["tokens"])
        assert len(found) == point["n"]
        assert {token["token"].strip().lower() for token in found} == {point["label"]}


@pytest.mark.parametrize("name", ["position", "planning"])
def test_the_share_and_the_metric_can_be_chosen(name: str, explorer: Explorer) -> None:
    query = {"run": ["base-1"], "metric": ["entropy_base"], "p": ["0.13"]}
    told = explorer.answer(f"statistics/{name}", query)
    assert (told["run"], told["metric"], told["share"], told["shares"]) == (
        "base-1", "entropy_base", 0.13, sorted({*SHARES, 0.13}),
    )  # fmt: skip
    assert " 13% " in told["title"]
    assert told["metrics"] == ["score", "ce", "entropy_base"], "those that the run has"
    tagged = {"diagnose-1", "base-1", "guided-1"}
    assert set(told["runs"][:3]) == tagged
    assert told["runs"][3:] == (["counterfactual-1"] if name == "position" else []), "continuations come last"
    assert sum(point["n"] for point in told["points"]) > 50
    for point in told["points"]:
        found = behind(explorer, point["tokens"])
        assert len(found) == point["n"]
        assert all(token["score"] >= point["tokens"]["scoreMin"] for token in found)


def test_the_share_is_the_smallest_with_some_words_where_none_is_asked_for(explorer: Explorer) -> None:
    def words(share: float) -> int:
        rows = run_query(explorer.store, "planning", run=["base-1"], metric="ce", p=share).to_pylist()
        return sum((row["tokens"], row["within"], row["part"]) == ("top_metric", "run", "word") for row in rows)

    told = explorer.answer("statistics/planning", {"run": ["base-1"]})
    sizes = [words(share) for share in SHARES]
    enough = [share for share, size in zip(SHARES, sizes, strict=True) if size >= 5]
    assert told["share"] == (enough[0] if enough else SHARES[sizes.index(max(sizes))])
    assert len(told["points"]) == words(told["share"])
    assert explorer.answer("statistics/position", {"run": ["base-1"]})["share"] == 0.01


def test_a_decile_has_the_positions_that_were_tested(explorer: Explorer) -> None:
    for run in (None, "guided-1", "counterfactual-1"):
        told = explorer.answer("statistics/causality", {} if run is None else {"run": [run]})
        assert told["run"] == "guided-1"
    rows = run_query(explorer.store, "causality", run=["counterfactual-1"]).to_pylist()
    rows = [row for row in rows if row["part"] == "decile"]
    assert [point["y"] for point in told["points"]] == [row["effect"] for row in rows]
    points = [f"{100 * row['effect']:+.1f}".replace("-", MINUS).replace("+0.0", "0.0") for row in rows]
    assert [point["said"]["y"] for point in told["points"]] == points
    assert [point["label"] for point in told["points"]] == [
        f"decile {row['decile']}: {NUMBER.text(row['score_low'])} to {NUMBER.text(row['score_high'])}" for row in rows
    ]
    assert [len(behind(explorer, point["tokens"])) for point in told["points"]] == [row["n_units"] for row in rows]


def test_a_budget_has_the_takeovers_of_its_run(explorer: Explorer) -> None:
    told = explorer.answer("statistics/budget", {"run": ["guided-1"]})
    base, guided = told["points"]
    assert (base["label"], base["x"], base["tokens"]) == ("base-1", 0.0, None)
    [run] = [run for run in explorer.info()["runs"] if run["run"] == "guided-1"]
    assert len(behind(explorer, guided["tokens"])) == run["takeovers"] > 0
    assert guided["x"] == run["takeovers"] / run["tokens"]
    assert guided["y"] == run["right"] / run["graded"]
    low, high = (f"{100 * guided[bound]:.1f}" for bound in ("low", "high"))
    said = {"x": f"{guided['x']:.3f}", "y": f"{100 * guided['y']:.1f}%", "interval": f"[{low}, {high}]"}
    assert (guided["said"], told["ticks"]) == (said, {"factor": 100, "suffix": "%"}), "as every table writes them"


@pytest.mark.parametrize(
    ("name", "run", "message"),
    [
        ("causality", "base-1", "No token of run base-1"),
        ("budget", "none", "no run 'none'"),
        ("position", "none", "no run 'none'"),
        ("budget&p=0.1", "guided-1", "not of a share"),
        ("planning&p=1.5", "guided-1", "p: Input should be less than 1"),
        ("planning&metric=joy", "guided-1", "metric.*'joy'"),
    ],
)
def test_a_run_that_lacks_what_it_needs_is_told(name: str, run: str, message: str, explorer: Explorer) -> None:
    name, _, more = name.partition("&")
    with pytest.raises(UsageError, match=message):
        explorer.answer(f"statistics/{name}", {"run": [run], **parse_qs(more)})


def test_only_so_many_shares_are_remembered(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share may be any number: who asks for many of them fills no memory, and gets the same again."""
    monkeypatch.setattr(aggregates, "_KEPT", 3)
    made = Aggregates(explorer.store, explorer.index)
    asked = [StatisticAsked(run="diagnose-1", p=p) for p in (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)]
    first = [made.of("position", each) for each in asked]
    assert len(made._made) == len(made._tables) == 3
    assert [made.of("position", each) for each in asked] == first
