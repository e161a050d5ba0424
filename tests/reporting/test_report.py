"""The whole report of a tiny store: what is in it, what is said to be missing, and that nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet
import pytest
from rich.console import Console
from typer.testing import CliRunner

from rrti_sgl import __version__
from rrti_sgl.cli import progress
from rrti_sgl.cli.main import app
from rrti_sgl.db.queries import QUERIES, run_query
from rrti_sgl.db.store import Store
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.reporting.context import Report
from rrti_sgl.programs.reporting.html import POLICY, SCRIPT
from rrti_sgl.programs.reporting.pages import notes_under
from rrti_sgl.programs.reporting.published import load_published
from rrti_sgl.programs.reporting.report import make_report, write_report
from rrti_sgl.programs.reporting.runs import select_runs
from rrti_sgl.programs.reporting.sections.decisions import _in_order, strip_tokens
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
    """What a page refers to, its ids, scripts, and the boxes that its tables scroll in."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.boxes: list[str | None] = []
        self.tables: list[str | None] = []
        self.scripts: list[str] = []
        self.cells: list[tuple[str, str | None]] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        given = dict(attrs)
        if tag == "table":
            self.tables.append(self.boxes[-1])
        if tag == "div":
            self.boxes.append(given.get("class"))
        if tag == "script":
            assert not attrs
            self.scripts.append("")
        if tag == "td":
            self.cells.append((given.get("class") or "", given.get("data-sort")))
        self.inside.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
            self.ids += [value or ""] if name == "id" else []

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.boxes.pop()
        self.inside.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        if self.inside and self.inside[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def page(out: Path) -> Page:
    page = Page()
    page.feed((out / "report.html").read_text())
    return page


def test_the_page_refers_to_nothing_outside_its_folder(out: Path, page: Page) -> None:
    text = (out / "report.html").read_text()
    assert page.tags.isdisjoint({"link", "iframe", "img", "object", "base", "form"})
    inside = {reference.removeprefix("#") for reference in page.references if reference.startswith("#")}
    assert len(inside) > 20
    assert len(page.ids) == len(set(page.ids))
    assert inside <= set(page.ids)
    files = {reference for reference in page.references if not reference.startswith("#")}
    assert all(re.fullmatch(r"(tables|figures)/[\w.-]+", name) and (out / name).is_file() for name in files)
    assert "@import" not in text
    assert "url(" not in text[: text.index("</style>")]


def test_every_table_scrolls_in_a_box_of_its_own_and_links_to_its_rows(made: Report, page: Page) -> None:
    assert page.tables == ["table"] * len(made.tables)
    for table in made.tables:
        assert {f"tables/{table.name}.{kind}" for kind in ("csv", "parquet", "tex")} <= set(page.references)
    for drawing in made.drawings:
        assert {f"figures/{drawing.name}.{kind}" for kind in drawing.files} <= set(page.references)


def test_the_policy_allows_the_one_script_and_no_other(out: Path, page: Page) -> None:
    assert page.scripts == [SCRIPT]
    digest = base64.b64encode(hashlib.sha256(page.scripts[0].encode()).digest()).decode()
    [script] = [part.strip() for part in POLICY.split(";") if part.strip().startswith("script-src")]
    assert script == f"script-src 'sha256-{digest}'"
    assert f'content="{POLICY}"' in (out / "report.html").read_text()
    assert "default-src 'none'" in POLICY


def test_cells_of_numbers_say_what_they_are_sorted_by(made: Report, page: Page) -> None:
    expected = [
        ("number" if numeric else "", None if number is None else f"{number:.6g}")
        for table in made.tables
        for row in table.numbers
        for numeric, number in zip(table.is_numeric, row, strict=True)
    ]
    assert page.cells == expected
    [tokens] = [table for table in made.tables if table.name == "cost-time"]
    places = [column.name for column in tokens.columns]
    assert [row[places.index("tokens")] for row in tokens.numbers] == [48, 48, 48, 48]


def test_what_holds_of_all_tables_is_said_once(made: Report, out: Path) -> None:
    for name in ("report.md", "report.html"):
        text = (out / name).read_text()
        for said in made.legend.values():
            piece = said[:40].partition("`")[0]
            assert text.count(piece) == 1, (name, piece)
        assert "† Published by" not in text
        assert "In brackets:" not in text
    for finished in made.sections:
        notes = [note for table in finished.content.tables for note in notes_under(made)[table.name]]
        assert len(notes) == len(set(notes))
        titles = [table.title for table in finished.content.tables]
        assert len(titles) == len(set(titles))
    for drawing in made.drawings:
        assert (out / "report.html").read_text().count(html.escape(drawing.caption)) == 1


def test_the_head_says_what_was_found_and_with_what(made: Report) -> None:
    assert made.findings[0] == (
        "On 4 problems of tiny, temperature 0.6, guided τ=0.5 took over 16.7% of the tokens, changed 4.2% and answered "
        "75.0% [19.1, 99.3] right; the base model alone 25.0% [0.7, 82.3], the reasoning model alone 100.0% [39.8, 100.0]: "
        "67% of the way from one to the other."
    )
    assert re.match(r"In base, \d+\.\d% of 48 tokens carry 80 % of the disagreement \(CE, Gini 0\.\d+\)", made.findings[1])
    assert "seed" in made.conditions
    assert made.conditions.endswith(f"This report, of 4 runs, is by rrti-sgl {__version__}.")


def test_tables_are_as_wide_as_a_page_of_1280_pixels(made: Report) -> None:
    """By the widest digits that a page may be shown in: headings are broken between words, numbers are not."""
    pixels, padding, page = 8.6, 16, 1217
    for table in made.tables:
        columns = zip(*table.cells, strict=True)
        width = 0.0
        for heading, cells, is_number in zip(table.headings, columns, table.is_numeric, strict=True):
            words = heading.split() + [piece for cell in cells for piece in ([cell] if is_number else cell.split())]
            width += max(map(len, words)) * pixels + padding
        assert width <= page, table.name


def test_progress_is_one_line_in_a_terminal_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(progress, "console", lambda **_: Console(file=shown, force_terminal=True, width=80))
    with progress.StageProgress() as stages:
        stages("Sparsity", 1, 2)
        stages("Position", 2, 2)
        stages("writing")
    assert "Sparsity" in shown.getvalue() or "writing" in shown.getvalue()
    assert shown.getvalue().endswith("\x1b[1A\x1b[2K")


def test_counts_are_whole_numbers(made: Report) -> None:
    checked = 0
    for table in made.tables:
        for field in table.data.schema:
            if re.match(r"n_|n$|tokens$|top_k$|k$", field.name) and not (
                pa.types.is_null(field.type) or pa.types.is_string(field.type)
            ):
                assert pa.types.is_integer(field.type), (table.name, field.name)
                checked += 1
    assert checked > 20


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
            assert "† Published by Shen" in note, "said of a table that stands alone"
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


def test_the_caution_says_what_ce_is_made_of(made: Report, tiny: Store) -> None:
    [sums] = tiny.sql(
        "SELECT sum(entropy_base) / sum(ce) AS share FROM tokens JOIN runs USING (run_id) WHERE program = 'diagnose'"
    ).to_pylist()
    [first] = made.caution
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
    assert "of the top 8% of tokens by CE" in rollouts.caution[0]


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


@pytest.mark.usefixtures("drawn_once")
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
    assert "counterfactual(" in reasons["causality"]
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


@pytest.mark.usefixtures("drawn_once")
def test_the_command_says_what_it_wrote(tiny_path: Path, tmp_path: Path) -> None:
    arguments = ["report", "--out", str(tmp_path / "r"), "--db", str(tiny_path), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    stages = done.stderr.splitlines()
    assert [line.split(" ")[0] for line in stages[:-1]] == [f"{place}/18" for place in range(1, 19)]
    assert (stages[0], stages[-1]) == ("1/18 Sparsity", "writing the files")
    [said] = orjson.loads(done.stdout)
    assert all(Path(name).is_file() for name in said["files"])
    assert {"statistic", "reason"} == set(said["missing"][0])


def test_the_strip_marks_what_was_taken_and_what_was_wanted(tiny: Store) -> None:
    [row] = tiny.sql("SELECT sample_id FROM samples WHERE run_id = 'guided-1' AND problem_id = 'p1'").to_pylist()
    tokens = strip_tokens(tiny.load_sample(row["sample_id"]), "ce")
    assert [token.taken for token in tokens] == [t in (2, 5) for t in range(12)]
    assert [token.wanted for token in tokens if token.taken] == ["t3", "t6"]
    assert all(token.wanted is None for token in tokens if not token.taken)


def test_stretches_of_takeovers_stand_from_short_to_long() -> None:
    """Also where the first run has no short ones; what a run has none of is nothing, not unknown."""
    found = {"a": {"17-32": 0.5, "3-4": 0.5}, "b": {"1": 0.25, "9-16": 0.75}}
    rows = [
        {"run": run, "part": part, "label": label, "share": share}
        for run, gaps in found.items()
        for part, shares in (("pair", {"x -> y": 1.0}), ("gap", gaps))
        for label, share in shares.items()
    ]
    ordered = _in_order(rows)
    assert list(dict.fromkeys((row["part"], row["label"]) for row in ordered)) == [
        ("gap", "1"), ("gap", "3-4"), ("gap", "9-16"), ("gap", "17-32"), ("pair", "x -> y"),
    ]  # fmt: skip
    shares = {(row["run"], row["label"]): row["share"] for row in ordered if row["part"] == "gap"}
    assert len(ordered) == 10
    assert (shares["a", "1"], shares["b", "17-32"], shares["a", "17-32"]) == (0, 0, 0.5)


@pytest.mark.usefixtures("drawn_once")
def test_the_time_of_a_run_is_that_in_which_a_sample_was_made(empty_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "timed.duckdb"
    path.write_bytes(empty_store.read_bytes())
    start = datetime(2026, 5, 1, tzinfo=UTC)
    spans = ((0, 400), (100, 400), (1000, 200))  # the first two overlap; then nobody is at work for 500 ms
    with Store.open(path) as store:
        store.begin_run(make_run("g", program="guided"))
        for i, (offset, wall) in enumerate(spans):
            trace = make_trace("g", f"p{i}", ce=[0.5] * 10)
            at = {"started_at": start + timedelta(milliseconds=offset), "wall_ms": float(wall), "base_ms": 20.0}
            store.write_samples([replace(trace, sample=replace(trace.sample, **at))])
        tables = {table.name: table for table in make_report(store).tables}
    [row] = tables["cost-time"].data.to_pylist()
    assert (row["tokens"], row["run ms"], row["samples at once"]) == (30, pytest.approx(700 / 30), pytest.approx(1000 / 700))
    assert row["wall ms"] == pytest.approx(1000 / 30)
    assert "waiting" in " ".join(tables["cost-time"].notes)
