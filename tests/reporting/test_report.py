"""The whole report of a tiny store: what is in it, what is said to be missing, and that nothing is fetched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from rrti_sgl.cli.main import app
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.published import load_published
from rrti_sgl.programs.reporting.report import Report, make_report, write_report
from rrti_sgl.programs.reporting.runs import select_runs
from rrti_sgl.programs.reporting.sections.decisions import strip_tokens
from tests.db.conftest import make_problem, make_run, make_trace


@pytest.fixture(scope="module")
def made(tiny_path: Path) -> Report:
    with Store.open_readonly(tiny_path) as store:
        return make_report(store)


@pytest.fixture(scope="module")
def out(made: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "report"
    write_report(made, folder)
    return folder


def test_every_statistic_has_its_section_with_content_or_a_reason(made: Report) -> None:
    names = [finished.section.name for finished in made.sections]
    assert set(QUERIES) <= set(names)
    assert len(names) == len(set(names))
    for finished in made.sections:
        assert finished.content.tables or finished.content.missing
    shown = {finished.section.name for finished in made.sections if finished.content.tables}
    assert {"sparsity", "position", "uncertainty", "planning", "failure", "accuracy", "takeovers", "cost"} <= shown


def test_the_shares_of_the_top_sets_are_those_of_the_statistic(made: Report, tiny: Store) -> None:
    """And not those of the Lorenz curve, which are of whole numbers of tokens and stand at the same levels."""
    [table] = [table for table in made.tables if table.name == "sparsity"]
    [row] = [row for row in table.data.to_pylist() if (row["run_id"], row["metric"]) == ("diagnose-1", "ce")]
    found = run_query(tiny, "sparsity", run="diagnose", metric="ce", top=[0.01, 0.08]).to_pylist()
    named = {each["level"]: each["value"] for each in found if each["statistic"] == "carried_by_top"}
    assert (row["top_1"], row["top_8"]) == (named[0.01], named[0.08])
    assert named[0.01] not in [each["value"] for each in found if each["statistic"] == "lorenz"]


def test_every_table_and_figure_is_there_in_every_format(made: Report, out: Path) -> None:
    for table in made.tables:
        assert pyarrow.parquet.read_table(out / f"tables/{table.name}.parquet").equals(table.data)
        assert (out / f"tables/{table.name}.csv").read_text().count("\n") >= table.data.num_rows
        assert r"\toprule" in (out / f"tables/{table.name}.tex").read_text()
    starts = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}
    assert {"lorenz", "position", "overlap", "enrichment", "roc", "strip"} <= {drawing.name for drawing in made.drawings}
    for drawing in made.drawings:
        for kind, start in starts.items():
            assert (out / f"figures/{drawing.name}.{kind}").read_bytes().startswith(start)
    for names in ([table.name for table in made.tables], [drawing.name for drawing in made.drawings]):
        assert len(names) == len(set(names)), "files would overwrite each other"


class Page(HTMLParser):
    """What a page refers to, and its ids."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
            self.ids += [value or ""] if name == "id" else []


def test_the_page_refers_to_nothing_outside_itself(out: Path) -> None:
    text = (out / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.tags.isdisjoint({"script", "link", "iframe", "img", "object"})
    assert len(page.references) > 50
    assert len(page.ids) == len(set(page.ids))
    assert {reference.removeprefix("#") for reference in page.references} <= set(page.ids)
    assert "@import" not in text
    assert "url(" not in text[: text.index("</style>")]


def test_markdown_links_to_files_that_are_there(out: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (out / "report.md").read_text())
    assert len(links) > 5
    for link in links:
        assert (out / link).is_file()


def test_published_numbers_are_marked_as_published(made: Report) -> None:
    marked = 0
    for table in made.tables:
        note = " ".join(table.all_notes)
        published = [i for i, column in enumerate(table.columns) if column.name.startswith("published")]
        for place in published:
            assert "published †" in table.headings[place]
        sources = table.data["source"].to_pylist() if "source" in table.data.column_names else []
        for row, source in zip(table.cells, sources, strict=False):
            assert row[0].endswith("†") == (source == "published")
        if published or "published" in sources:
            marked += 1
            assert "† Published by Shen" in note
            assert "2605.16874" in note
            assert "not measured here" in note
    assert marked >= 5


def test_published_numbers_are_the_papers() -> None:
    published = load_published()
    assert published.value("sparsity.gini") == 0.936
    assert published.value("failure.auroc.metric") == 0.851
    assert published.value("nothing") is None
    guided = [row for row in published.rows if row.program == "guided" and row.size == "Qwen3-0.6B"]
    assert [(row.rho, row.accuracy, row.pass_at_k) for row in guided] == [(0.04, 0.291, 0.614), (0.13, 0.524, 0.8)]
    for value in published.values.values():
        assert value.setting


def test_the_first_paragraph_says_what_ce_is_made_of(made: Report, tiny: Store) -> None:
    [sums] = tiny.sql(
        "SELECT sum(entropy_base) / sum(ce) AS share FROM tokens JOIN runs USING (run_id) WHERE program = 'diagnose'"
    ).to_pylist()
    first = made.introduction[0]
    assert first.startswith("CE, the paper's score, is reverse KL plus the base model's own entropy")
    assert f"In diagnose {sums['share']:.1%} of the CE of all tokens is base entropy, their rank correlation is 0." in first


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[Report]:
    """A report of base rollouts whose divergences are all there, of 40 tokens each but two of 120."""
    path = tmp_path_factory.mktemp("rollouts") / "store.duckdb"
    path.write_bytes(empty_store.read_bytes())
    draws = np.random.default_rng(0)
    with Store.open(path) as store:
        store.begin_run(make_run("d", program="diagnose", gate="never", tau=None))
        traces = []
        for i in range(12):
            n = 120 if i < 2 else 40
            entropy, apart = draws.exponential(1, n), draws.exponential(0.1, n)
            tokens = {"entropy_base": entropy, "reverse_kl": apart, "js": apart / 2, "kl": apart, "tv": apart}
            tokens |= {"planning_tag": ["plan" if value > 0.2 else None for value in apart]}
            traces.append(make_trace("d", f"p{i:02d}", 0, entropy + apart, correct=i % 3 == 0, tokens=tokens))
        store.write_samples(traces)
        yield make_report(store)


def test_reverse_kl_and_js_stand_beside_ce(rollouts: Report) -> None:
    tables = {table.name: table for table in rollouts.tables}
    metrics = ["ce", "reverse_kl", "js"]
    for name in ("position", "uncertainty", "uncertainty-ranks"):
        assert list(dict.fromkeys(tables[name].data["metric"].to_pylist())) == metrics
    assert list(dict.fromkeys(tables["failure"].data["predictor"].to_pylist())) == [*metrics, "entropy_base", "length"]
    sets = tables["planning"].data["set"].to_pylist()
    assert len(sets) == len(set(sets))
    for share in ("1%", "8%"):
        for score in (*metrics, "base entropy"):
            assert {f"top {share} by {score}", f"top {share} by {score}, of each sample"} <= set(sets)
    top = {row["set"]: row["share"] for row in tables["planning"].data.to_pylist()}
    assert top["top 8% by ce"] < top["top 8% by reverse_kl"] == 1
    assert "of the top 8% of tokens by CE" in rollouts.introduction[0]


def test_no_published_number_beside_another_quantity(rollouts: Report) -> None:
    tables = {table.name: table for table in rollouts.tables}
    failure = tables["failure"]
    assert {row["with_k"] for row in failure.data.to_pylist() if row["top_k"]} == {2 / 12}
    assert "published" not in [column.name for column in failure.columns]
    assert any("fewer than half" in note for note in failure.notes)
    beside = {row["set"]: row["published_odds"] for row in tables["planning"].data.to_pylist()}
    assert beside["top 8% by ce"] == pytest.approx(8.54, abs=0.01)
    assert beside["top 8% by reverse_kl"] is beside["top 8% by ce, of each sample"] is beside["all tokens"] is None
    peaks = [row for row in tables["position"].data.to_pylist() if row["published"] is not None]
    assert {(row["part"], row["metric"]) for row in peaks} == {("peak", "ce")}


def test_the_same_store_gives_the_same_bytes(tiny_path: Path, out: Path, tmp_path: Path) -> None:
    with Store.open_readonly(tiny_path) as store:
        files = write_report(make_report(store), tmp_path / "again")
    for path in files:
        if path.suffix in (".csv", ".parquet"):
            continue  # every digit of a mean: the store adds up in any order, and the last one may differ
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "again")).read_bytes(), path.name


def test_what_is_missing_is_said_with_the_reason(empty_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.duckdb"
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as store:
        store.add_problems([make_problem("p1")])
        store.begin_run(make_run("lonely", program="guided"))
        store.write_samples([make_trace("lonely", "p1", correct=None)])
        report = make_report(store)
    reasons = {finished.section.name: " ".join(finished.content.missing) for finished in report.sections}
    assert "no base rollouts that both models scored" in reasons["sparsity"]
    assert "not graded" in reasons["accuracy"] or "no sample is graded" in reasons["accuracy"]
    assert "never fired on its 3 tokens" in reasons["takeovers"]
    assert "rrti counterfactual" in reasons["causality"]
    write_report(report, tmp_path / "report")
    for page in ("report.md", "report.html"):
        assert (tmp_path / "report" / page).read_text().lower().count("not shown:") >= 4


def test_runs_are_named_and_grouped(tiny: Store) -> None:
    selection = select_runs(tiny)
    assert selection.labels == {name: name[:-2] for name in selection.ids} | {"guided-1": "guided τ=0.5"}
    [comparison] = selection.comparisons
    assert list(comparison.runs) == ["base-1", "guided-1", "reasoning-1"]
    assert (comparison.base, comparison.reasoning, comparison.n_problems) == ("base-1", "reasoning-1", 4)
    assert select_runs(tiny, ["guided", "diag"]).ids == ["diagnose-1", "guided-1"]
    with pytest.raises(UsageError, match="No run id starts with 'zz'"):
        select_runs(tiny, ["zz"])


def test_an_empty_store_has_no_report(empty_store: Path) -> None:
    with Store.open_readonly(empty_store) as store, pytest.raises(UsageError, match="None of the runs has samples"):
        make_report(store)


def test_runs_of_other_models_are_not_compared(empty_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.duckdb"
    path.write_bytes(empty_store.read_bytes())
    with Store.open(path) as store:
        store.add_problems([make_problem("p1")])
        for run_id, model in (("a", "org/small"), ("b", "org/large")):
            store.begin_run(make_run(run_id, program="base", base_model=model, tau=None))
            store.write_samples([make_trace(run_id, "p1")])
        selection = select_runs(store)
    assert len(selection.comparisons) == 2
    assert set(selection.labels.values()) == {"base, small + reasoning", "base, large + reasoning"}


def test_the_command_says_what_it_wrote(tiny_path: Path, tmp_path: Path) -> None:
    arguments = ["report", "--out", str(tmp_path / "r"), "--db", str(tiny_path), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    [said] = orjson.loads(done.stdout)
    assert all(Path(name).is_file() for name in said["files"])
    assert {"statistic", "reason"} == set(said["missing"][0])


def test_the_strip_marks_what_was_taken_and_what_was_wanted(tiny: Store) -> None:
    [row] = tiny.sql("SELECT sample_id FROM samples WHERE run_id = 'guided-1' AND problem_id = 'p1'").to_pylist()
    tokens = strip_tokens(tiny.load_sample(row["sample_id"]), "ce")
    assert [token.taken for token in tokens] == [t in (2, 5) for t in range(12)]
    assert [token.wanted for token in tokens if token.taken] == ["t3", "t6"]
    assert all(token.wanted is None for token in tokens if not token.taken)
