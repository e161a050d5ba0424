"""The explorer as a folder, read back."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest

from rrti_sgl.cli.main import run
from rrti_sgl.db.sample_index import SampleIndex
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.explorer import export as exporting
from rrti_sgl.programs.explorer.aggregates import SHARES
from rrti_sgl.programs.explorer.asked import MOST_TOKENS, FiltersAsked, read
from rrti_sgl.programs.explorer.explorer import Explorer
from rrti_sgl.programs.explorer.export import MARK, chosen_samples, export
from rrti_sgl.programs.explorer.shell import ASSETS
from tests.db.conftest import make_problem, make_run, make_trace
from tests.explorer.conftest import PROBLEMS
from tests.hostile import make_hostile_store
from tests.reporting.conftest import write_tiny

NAMES = ["budget", "position", "planning"]


def read_back(folder: Path) -> dict[str, Any]:
    """The payloads of a folder by key; each lies where its key says."""
    found = {}
    for path in sorted(folder.glob("data/**/*.js")):
        told = re.fullmatch(r'rrti\(("[^"]*"), (.*)\)\n', path.read_text(encoding="utf-8"), re.DOTALL)
        assert told is not None
        key = orjson.loads(told[1])
        assert path == folder / f"data/{key.replace('%', '~').replace('?', '~3F')}.js"
        found[key] = orjson.loads(told[2])
    return found


def test_every_payload_is_the_servers(explored: Explorer, tmp_path: Path) -> None:
    rows = chosen_samples(explored, ["guided", "base-1"], limit=7)
    assert [(row["problem"], row["index"]) for row in rows[:4]] == [("p0", 0), ("p0", 0), ("p0", 1), ("p0", 1)]
    made = export(explored, rows, tmp_path / "page")
    found = read_back(made.folder)
    samples = [f"{row['run']}/{row['sample']}" for row in rows]
    kinds = ("sample", "candidates")
    statistics = {key for key in found if key.startswith("statistics/")}
    assert set(found) == {
        "store",
        "samples",
        "tokens",
        "trees",
        *(f"{kind}/{each}" for kind in kinds for each in samples),
        *statistics,
    }
    assert found["samples"] == {"total": 7, "offset": 0, "rows": rows}
    for each in samples:
        for kind in kinds:
            told = orjson.loads(orjson.dumps(explored.answer(f"{kind}/{each}", {})))
            assert {**found[f"{kind}/{each}"], "runInfo": None} == {**told, "runInfo": None}
    infos = found["store"]["runs"]
    assert [info["run"] for info in infos] == ["base-1", "guided-1"]
    for info in infos:  # numbers are those of the rows that are here
        own = [row for row in rows if row["run"] == info["run"]]
        graded = [row["correct"] for row in own if row["correct"] is not None]
        assert 0 < len(own) < 2 * PROBLEMS
        assert (info["samples"], info["graded"], info["right"]) == (len(own), len(graded), sum(graded))
        assert info["tokens"] == sum(row["tokens"] for row in own)
        assert info["takeovers"] == sum(row["takeovers"] for row in own)
        assert all(found[f"sample/{row['run']}/{row['sample']}"]["runInfo"] == info for row in own)
    assert (found["store"]["static"], found["store"]["branching"]) == (True, False)


def test_many_samples_are_written_with_as_many_queries_as_few(
    explored: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for kind in (Store, SampleIndex):

        def noted(self: Any, query: str, *values: Any, was: Any = kind.sql, **named: Any) -> Any:
            asked.append(query)
            return was(self, query, *values, **named)

        monkeypatch.setattr(kind, "sql", noted)
    counts = []
    for limit in (8, 30):
        export(explored, chosen_samples(explored, ["guided", "base-1"], limit=limit), tmp_path / f"{limit}")
        counts.append(len(asked))
        asked.clear()
    assert counts[0] == counts[1] > 0


def test_statistics_are_those_of_a_store_that_has_the_chosen_samples_alone(explored: Explorer, tmp_path: Path) -> None:
    rows = chosen_samples(explored, ["guided", "base-1", "diagnose"], limit=30)
    made = export(explored, rows, tmp_path / "page")
    found = {key: payload for key, payload in read_back(made.folder).items() if key.startswith("statistics/")}
    with Store.open(tmp_path / "alone.duckdb", precision="exact") as alone:
        alone.add_problems([explored.store.get_problem("tiny", f"p{i}") for i in range(PROBLEMS)])
        for run in ("diagnose-1", "base-1", "guided-1"):
            alone.begin_run(explored.store.get_run(run))
        alone.write_samples([explored.store.load_sample(row["sample"]) for row in rows])
        with Explorer(alone) as explorer:
            assert read_back(made.folder)["store"]["statistics"] == explorer.info()["statistics"] == NAMES
            for key, payload in found.items():
                name, _, query = key.partition("?")
                told = orjson.loads(orjson.dumps(explorer.answer(name, parse_qs(query))))
                assert payload.pop("note") == f"Of the 30 samples of this page alone. {told.pop('note') or ''}".strip()
                assert payload | {"metrics": told["metrics"]} == told, key
    shares = ["", *(f"p={share}" for share in SHARES)]
    runs = {name: ["", "run=base-1", *(["run=diagnose-1"] if name != "budget" else []), "run=guided-1"] for name in NAMES}
    for name in NAMES:
        asked = itertools.product(runs[name], [""] if name == "budget" else shares)
        written = {f"statistics/{name}?{'&'.join(filter(None, each))}".rstrip("?") for each in asked}
        assert written == {key for key in found if f"/{name}" in key}


def test_arms_without_what_they_continue_are_no_causality(tmp_path: Path) -> None:
    with Store.open(tmp_path / "traces.duckdb") as store:
        store.add_problems([make_problem("p")])
        store.begin_run(make_run("base-1", program="base"))
        store.begin_run(make_run("counterfactual-1", program="counterfactual"))
        parent = make_trace("base-1", "p", 0, [0.5, 0.1], correct=True)
        at = {"parent_sample_id": parent.sample.sample_id, "parent_position": 1}
        arms = [
            make_trace("counterfactual-1", "p", i, [0.2], correct=arm == "taken", arm=arm, **at)
            for i, arm in enumerate(("taken", "denied"))
        ]
        store.write_samples([parent, *arms])
        with Explorer(store) as explorer:
            whole = export(explorer, chosen_samples(explorer), tmp_path / "whole")
            part = export(explorer, chosen_samples(explorer, ["counterfactual"]), tmp_path / "part")
    assert "causality" in read_back(whole.folder)["store"]["statistics"]
    assert "causality" not in read_back(part.folder)["store"]["statistics"]


def test_the_page_needs_nothing_but_its_folder(explored: Explorer, tmp_path: Path) -> None:
    made = export(explored, chosen_samples(explored, limit=1), tmp_path / "page")
    page = made.page.read_text(encoding="utf-8")
    assert '<html lang="en" data-static>' in page
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) == {"data:,", "explorer.css", "explorer.js"}
    assert "script-src 'self' file:;" in page
    files = [path for path in made.folder.rglob("*") if path.is_file()]
    assert {path.name for path in made.folder.iterdir()} == {"index.html", MARK, "data", *ASSETS}
    assert made.bytes == sum(path.stat().st_size for path in files if path.name != MARK)
    assert orjson.loads((made.folder / MARK).read_bytes())["samples"] == made.samples == 1


def test_candidates_of_a_long_sample_are_whole(tmp_path: Path) -> None:
    n = MOST_TOKENS + 5
    with Store.open(tmp_path / "long.duckdb") as store:
        store.add_problems([make_problem()])
        store.begin_run(make_run())
        store.write_samples([make_trace(ce=[0.5] * n)])
        with Explorer(store) as explorer:
            made = export(explorer, chosen_samples(explorer), tmp_path / "page")
    [candidates] = [payload for key, payload in read_back(made.folder).items() if key.startswith("candidates/")]
    assert (candidates["from"], candidates["to"], len(candidates["tokens"])) == (0, n, n)


def test_texts_of_a_foreign_store_name_no_file(tmp_path: Path) -> None:
    make_hostile_store(tmp_path / "traces.duckdb")
    with Store.open(tmp_path / "traces.duckdb") as store:
        trace = make_trace("run-0", "p", 7, sample_id="../../../../escaped")
        store.write_samples([trace])
        with Explorer(store) as explorer:
            made = export(explorer, chosen_samples(explorer, ["run-0"]), tmp_path / "a" / "page")
            assert read_back(made.folder)["sample/run-0/..%2F..%2F..%2F..%2Fescaped"]["row"]["problem"] == "p"
    assert {path.name for path in tmp_path.iterdir()} == {"traces.duckdb", "a"}
    inside = {path.resolve().is_relative_to(made.folder) for path in tmp_path.rglob("*.js")}
    assert inside == {True}


@pytest.mark.parametrize("name", ["notes.md", "data/notes.txt", "images/one.png"])
def test_what_somebody_put_beside_is_not_lost(explored: Explorer, tmp_path: Path, name: str) -> None:
    rows = chosen_samples(explored, limit=1)
    made = export(explored, rows, tmp_path / "page")
    (made.folder / name).parent.mkdir(exist_ok=True)
    (made.folder / name).write_text("mine")
    with pytest.raises(UsageError, match="it would be lost"):
        export(explored, rows, made.folder)
    assert (made.folder / name).read_text() == "mine"
    (made.folder / name).unlink()
    assert export(explored, rows, made.folder).samples == 1


def test_only_what_was_written_here_is_replaced(explored: Explorer, tmp_path: Path) -> None:
    mine, folder = tmp_path / "mine", tmp_path / "page"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(mine)
    rows = chosen_samples(explored, limit=2)
    for taken in ("mine", "file", "link"):
        with pytest.raises(UsageError, match="no page of the explorer"):
            export(explored, rows, tmp_path / taken)
    assert (mine / "thesis.txt").read_text() == "mine"
    folder.mkdir()
    export(explored, rows, folder)
    export(explored, rows[:1], folder)
    assert read_back(folder)["samples"]["total"] == 1
    assert len(list((folder / "data/sample").rglob("*.js"))) == 1, "nothing of the older one is left"
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "file", "link", "page"}


def test_a_failure_leaves_the_old_page(explored: Explorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = chosen_samples(explored, limit=3)
    folder = export(explored, rows, tmp_path / "page").folder
    monkeypatch.setattr(exporting, "asset", lambda name: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UsageError, match="No space left"):
        export(explored, rows[:1], folder)
    assert read_back(folder)["samples"]["total"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_samples_are_chosen_by_run_and_by_id(explored: Explorer) -> None:
    assert len(chosen_samples(explored, limit=1000)) == 4 * PROBLEMS * 2
    [row] = chosen_samples(explored, samples=[chosen_samples(explored, ["guided"])[3]["sample"][:9]])
    assert row == chosen_samples(explored, ["guided"])[3]
    with pytest.raises(UsageError, match="'zz'"):
        chosen_samples(explored, ["guided"], ["zz"])
    with pytest.raises(UsageError, match="nothing"):
        chosen_samples(explored, ["nothing"])


def test_samples_are_chosen_by_the_filters_of_the_page(explored: Explorer) -> None:
    query = {"outcome": ["wrong"], "word": ["then"], "scoreMin": ["0.5"]}
    listed = [row["sample"] for row in explored.answer("samples", query | {"limit": ["1000"]})["rows"]]
    rows = chosen_samples(explored, asked=read(FiltersAsked, query), limit=1000)
    assert sorted(row["sample"] for row in rows) == sorted(listed) != []
    assert [row["problem"] for row in rows] == sorted(row["problem"] for row in rows)
    own = chosen_samples(explored, ["guided"], asked=read(FiltersAsked, query))
    assert own == [row for row in rows if row["run"] == "guided-1"]
    query["sort"] = ["maxScore"]
    rows = chosen_samples(explored, asked=read(FiltersAsked, query), limit=3)
    assert rows == explored.answer("samples", query | {"limit": ["3"]})["rows"]
    with pytest.raises(UsageError, match="other filters"):
        chosen_samples(explored, asked=FiltersAsked(word="nothing"))


def test_the_command_says_what_it_wrote(random_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["view", str(random_path), "--export", str(tmp_path / "page"), "--run", "guided", "--limit", "5"]) == 0
    told = capsys.readouterr().out
    assert re.fullmatch(rf"5 samples, \d+\.\d MB: open {re.escape(str(tmp_path))}/page/index.html\n", told)
    filtered = ["view", str(random_path), "--export", str(tmp_path / "page"), "--filters"]
    for query in ("outcome=right&run=guided-1", "http://127.0.0.1:8000/?outcome=right&run=guided-1"):
        assert run([*filtered, query]) == 0
        rows = read_back(tmp_path / "page")["samples"]["rows"]
        assert {(row["run"], row["correct"]) for row in rows} == {("guided-1", True)}
    capsys.readouterr()
    assert run([*filtered, "limit=3"]) == 2
    assert "limit: Extra inputs" in capsys.readouterr().err
    for option in ("--run", "--filters"):
        assert run(["view", str(random_path), option, "guided"]) == 2
        assert "--export" in capsys.readouterr().err


@pytest.mark.usefixtures("drawn_once")
def test_a_report_links_the_sample_that_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny(tmp_path / "traces.duckdb")
    out = tmp_path / "report"
    runs = ["guided", "base"]
    assert run(["report", *runs, "--db", str(tmp_path / "traces.duckdb"), "--out", str(out), "--explorer"]) == 0
    page = (out / "report.html").read_text(encoding="utf-8")
    [link] = re.findall(r'href="explorer/index.html#/(sample/[^"]*)"', page)
    assert f"(explorer/index.html#/{link})" in (out / "report.md").read_text(encoding="utf-8")
    found = read_back(out / "explorer")
    assert found[link]["runInfo"]["program"] == "guided"
    assert [row["run"] for row in found["samples"]["rows"]] == ["guided-1", "base-1"], "of the report's runs alone"
    assert run(["report", "base", "--db", str(tmp_path / "traces.duckdb"), "--out", str(out), "--explorer"]) == 2
    assert "shows no sample" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["--sealed", "--snapshot"])
def test_sealed_runs_are_written_while_another_holds_the_store(how: str, tmp_path: Path) -> None:
    write_tiny(tmp_path / "traces.duckdb")
    assert run(["db", "seal", "guided-1", "--unfinished", "--db", str(tmp_path / "traces.duckdb")]) == 0
    with Store.open(tmp_path / "traces.duckdb"):
        assert run(["view", str(tmp_path / "traces.duckdb"), how, "--export", str(tmp_path / "page")]) == 0
    assert {row["run"] for row in read_back(tmp_path / "page")["samples"]["rows"]} == {"guided-1"}
