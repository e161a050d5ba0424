"""A grid on the real servers: run, stopped in the middle and continued, and then not run again; and with a guest."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from rrti_sgl.cli import experiment_run
from rrti_sgl.cli.experiment_progress import GridProgress
from rrti_sgl.cli.main import app
from rrti_sgl.db.store import Store
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.programs.experiments.grid import Cell, Grid, build_grid
from rrti_sgl.programs.experiments.loading import load_experiment
from rrti_sgl.programs.experiments.running import GridRunner, GridRuns, PairIdentity
from rrti_sgl.programs.running.runner import Progress
from rrti_sgl.programs.running.session import Concurrency, PairSession, open_session
from rrti_sgl.records import RunRecord
from rrti_sgl.serving.server import ServedPair
from rrti_sgl.tinypair.bundle import BASE_NAME
from tests.experiments.files import BASE, SMALL, pair, write
from tests.toy_pair import ToyEngine, toy_pair


class Watch:
    """Notes what it is told, and stops a run after some samples."""

    def __init__(self, stop_in: str = "", after: int = 0) -> None:
        self.stop_in, self.after = stop_in, after
        self.begun: list[str] = []
        self.stored: list[str] = []

    def begin(self, cell: Cell) -> None:
        self.begun.append(cell.label)

    def progress(self, cell: Cell, progress: Progress) -> None:
        if cell.label == self.stop_in and progress.done >= self.after:
            raise EndpointError("The server died.", "See its log.")

    def end(self, cell: Cell, run: RunRecord, *, stored: bool) -> None:
        if stored:
            self.stored.append(cell.label)


def grid_of(tmp_path: Path, text: str = SMALL) -> Grid:
    loaded = load_experiment(write(tmp_path, text))
    grid = build_grid(loaded.spec, loaded.complaints)
    loaded.complaints.raise_if_any()
    return grid


def run(store: Store, served: ServedPair, grid: Grid, watch: Watch) -> tuple[GridRuns, PairIdentity]:
    async def go() -> tuple[GridRuns, PairIdentity]:
        runs = GridRuns()
        async with open_session(served.base.url, served.reasoning.url, Concurrency(4)) as session:
            await GridRunner(store, watch, "rrti experiment mine.toml").run(session, grid, runs)
            return runs, PairIdentity.of(session.pair)

    return asyncio.run(go())


def samples(store: Store) -> list[dict[str, Any]]:
    return store.sql("SELECT run_id, status, n_samples FROM run_view ORDER BY created_at").to_pylist()


def guided_toys(path: Path) -> str:
    """A grid for toy models: guided and random takeovers of the reasoning model, and of the base model itself."""
    lines = [json.dumps({"question": f"w{1 + i % 6} w{1 + i // 6}", "answer": f"w{1 + i % 6}"}) for i in range(24)]
    (path / "calibration.jsonl").write_text("\n".join(lines[:12]))
    (path / "test.jsonl").write_text("\n".join(lines[12:]))
    models = "".join(f'[models.{name}]\nmodel = "m"\ntemplate = "bare@1"\n' for name in ("base", "reasoning", "guests.same"))
    both = 'guest = ["reasoning", "same"]'
    return f"""{models}
        [decoding]
        k = 7
        max_new_tokens = 20
        [calibration]
        problems = "calibration.jsonl"
        [[evaluations]]
        problems = "test.jsonl"
        name = "toys"
        [[programs]]
        program = "base"
        [[programs]]
        program = "guided"
        spike_ratio = 0.2
        {both}
        [[programs]]
        program = "random"
        like = "guided r=0.2"
        {both}"""


def test_a_guest_takes_over_by_thresholds_of_its_own(tmp_path: Path) -> None:
    """A model that is its own guest is asked, and changes nothing; its control follows its own run."""
    grid = grid_of(tmp_path, guided_toys(tmp_path))
    with Store.open(tmp_path / "traces.duckdb") as store:
        runs, watch = GridRuns(), Watch()
        runner = GridRunner(store, watch, "")

        async def with_guest(guest: str, seed: int) -> PairIdentity:
            pair = replace(toy_pair(3), reasoning=ToyEngine(seed))
            pair.reasoning.info = replace(pair.reasoning.info, model=guest)  # type: ignore[misc]
            async with PairSession(pair, Concurrency(4)) as session:
                await runner.run(session, grid, runs, guest)
                return PairIdentity.of(pair)

        identities = {guest: asyncio.run(with_guest(guest, seed)) for guest, seed in (("reasoning", 9), ("same", 3))}
        assert list(runs.calibrations) == grid.guests == ["reasoning", "same"]
        assert sorted(runs.ids) == sorted(row["run_id"] for row in samples(store))
        query = """
            SELECT any_value(reasoning_model) AS guest, sum(n_takeovers) AS takeovers, sum(n_changed) AS changed,
                any_value(tau) AS tau, any_value(config ->> '$.gate.like') AS followed
            FROM samples JOIN runs USING (run_id) WHERE run_id = $run
        """
        rows = {label: store.sql(query, {"run": run}).to_pylist()[0] for (_, label), run in runs.runs.items()}
        del rows["base"]
        for label, row in rows.items():
            guest = "same" if label.endswith("same") else "reasoning"
            assert row["guest"] == guest
            assert row["takeovers"] > 0
            assert (row["changed"] > 0) == (guest == "reasoning")
            if label.startswith("random"):
                assert row["followed"] == runs.runs["toys", label.replace("random like", "guided")]
        assert rows["guided r=0.2"]["tau"] != rows["guided r=0.2, guest same"]["tau"]
        for guest, identity in identities.items():
            assert runner.take_stored(identity, grid, GridRuns(), guest)
        assert len(watch.stored) == 7


def test_problems_that_the_bundled_pair_is_shown_in_its_own_words_are_not_run_twice(tmp_path: Path) -> None:
    """Their length is then its own, too, which is found again without the pair."""
    grid = grid_of(tmp_path, guided_toys(tmp_path).replace("max_new_tokens = 20", ""))

    async def go(watch: Watch) -> PairIdentity:
        pair = toy_pair(3)
        pair.base.info = replace(pair.base.info, model=BASE_NAME)  # type: ignore[misc]
        async with PairSession(pair, Concurrency(4)) as session:
            await GridRunner(store, watch, "").run(session, grid, GridRuns())
            return PairIdentity.of(pair)

    with Store.open(tmp_path / "traces.duckdb") as store:
        first, again = Watch(), Watch()
        identity = asyncio.run(go(first))
        assert asyncio.run(go(again)) == identity
        assert GridRunner(store, again, "").take_stored(identity, grid, GridRuns())
    assert again.begun == []
    assert again.stored == 2 * first.begun == 2 * ["diagnose", "base", "guided r=0.2", "random like r=0.2"]


@pytest.mark.server
def test_a_stopped_grid_goes_on_where_it_was_and_is_not_run_twice(tmp_path: Path, served_pair: ServedPair) -> None:
    grid = grid_of(tmp_path)
    with Store.open(tmp_path / "traces.duckdb") as store:
        with pytest.raises(EndpointError) as stopped:
            run(store, served_pair, grid, Watch("guided r=0.08", after=2))
        assert stopped.value.remedy == "See its log. Continue with: rrti experiment mine.toml."
        before = samples(store)
        assert [row["status"] for row in before] == ["finished", "finished", "failed"]
        assert 1 <= before[-1]["n_samples"] < 4

        watch = Watch()
        runs, identity = run(store, served_pair, grid, watch)
        assert watch.stored == ["diagnose", "base"]
        assert watch.begun == ["guided r=0.08", "reasoning"]
        after = samples(store)
        assert [row["run_id"] for row in after][:3] == [row["run_id"] for row in before]
        assert [(row["status"], row["n_samples"]) for row in after] == [("finished", n) for n in (12, 4, 4, 4)]

        watch = Watch()
        assert run(store, served_pair, grid, watch)[0] == runs
        assert watch.begun == []
        taken = GridRuns()
        assert GridRunner(store, watch, "").take_stored(identity, grid, taken)  # no server was asked
        assert taken == runs
        assert samples(store) == after
        assert len(store.sql("SELECT 1 FROM calibrations")) == 1

        # Another budget: only its own run is new.
        watch = Watch()
        more = grid_of(tmp_path, SMALL.replace("spike_ratio = 0.08", "spike_ratio = [0.08, 0.2]"))
        assert not GridRunner(store, watch, "").take_stored(identity, more, GridRuns())
        run(store, served_pair, more, watch)
        assert watch.begun == ["guided r=0.2"]


@pytest.mark.server
def test_a_prompt_that_a_server_does_not_take_is_refused_before_the_first_token(
    tmp_path: Path, served_pair: ServedPair
) -> None:
    grid = grid_of(tmp_path, SMALL.replace("limit = 4", "limit = 4\nmax_new_tokens = 505"))
    with Store.open(tmp_path / "traces.duckdb") as store:
        with pytest.raises(UsageError, match=r"greedy: The base prompt has \d+ tokens"):
            run(store, served_pair, grid, Watch())
        assert samples(store) == []


@pytest.mark.server
@pytest.mark.usefixtures("drawn_once")
def test_the_command_runs_the_grid_and_writes_the_report(
    tmp_path: Path, served_pair: ServedPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    # The base model stands in for the reference model: a third server would cost half a minute.
    urls = {"base": served_pair.base.url, "reasoning": served_pair.reasoning.url, "reference": served_pair.base.url}
    servers = "[servers]\n" + "".join(f'{side}_url = "{url}"\n' for side, url in urls.items())
    servers += f'guest_urls = {{ same = "{served_pair.base.url}" }}\n'
    reference = f"[models.reference]\nmodel = {str(BASE)!r}\n[models.guests.same]\nmodel = {str(BASE)!r}\n"
    sampled = '[[evaluations]]\nname = "sampled"\nproblems = "world:heldout"\nlimit = 3\nsamples = 2\ntemperature = 0.8\n'
    text = pair().replace("[calibration]", f"{reference}{servers}{sampled}[calibration]")
    guest = 'spike_ratio = 0.08\nguest = ["reasoning", "same"]'
    file = write(tmp_path, text.replace("spike_ratio = 0.08", guest))
    command = ["experiment", file, "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.exception
    assert "sampled: 3 problems, 2 samples each" in done.stdout
    accuracy = r" +[\u2013 ]*(\S+% \[\S+ \S+\])"  # behind rates that are not there
    base, reference_row = (re.findall(name + accuracy, done.stdout)[1] for name in ("base", "reference"))
    assert base == reference_row  # greedy, one model
    # It is its own guest: it is asked, and nothing can change.
    assert re.search(r"guided r=0.08, guest same +0\.\d+ +0\.000 +" + re.escape(base), done.stdout)
    assert f"guest same: {BASE}." in done.stdout.replace("\n", "")
    assert (tmp_path / "out" / "report" / "report.html").is_file()
    lines = re.findall(r"^\[ *(\d+)/12\] (\w+: [^:]+): (\d+)/(\d+), rho", done.stderr, re.MULTILINE)
    assert [number for number, *_ in lines] == [str(number) for number in range(1, 13)]
    assert all(n == total for _, _, n, total in lines)
    # Once more, without the report: it takes some seconds, and it was shown to be there.
    monkeypatch.setattr(experiment_run, "make_report", lambda store, runs: runs)
    monkeypatch.setattr(experiment_run, "write_report", lambda report, out: [out / "report.md", out / "report.html"])
    again = CliRunner().invoke(app, [*command, "--json"])
    assert again.exit_code == 0, again.exception
    assert again.stderr.count("stored already") == 12
    [result] = json.loads(again.stdout)
    assert [table["title"].partition(":")[0] for table in result["tables"]] == ["sampled", "greedy"]
    assert len(result["runs"]) == 10


def test_what_goes_on_with_an_experiment_has_the_options_that_were_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(spec: object, grid: object, findings: object, command: str, cluster: object) -> None:
        raise UsageError(command, "")

    monkeypatch.setattr(experiment_run, "run_experiment", stop)
    tokenizers = [f"--tokenizer={side}={BASE}" for side in ("base", "reasoning")]
    typed = ["--out", str(tmp_path / "my runs"), "--limit", "3", *tokenizers, "--json"]
    done = CliRunner().invoke(app, ["experiment", "demo", *typed])
    repeated = " ".join(each.replace("=", " ", 1) for each in tokenizers)
    assert str(done.exception) == f"rrti experiment demo --out '{tmp_path}/my runs' --limit 3 {repeated}"


# -- the live table -------------------------------------------------------------------------------------------------


def test_the_live_table_fits_80_by_24_and_shows_the_runs_of_one_evaluation(tmp_path: Path) -> None:
    loaded = load_experiment("paper-qwen3-0.6b")
    grid = build_grid(loaded.spec, loaded.complaints)
    names = {cell.evaluation.name for cell in grid.all_cells}
    console = Console(width=80, height=24, record=True, force_terminal=True, highlight=False)
    progress = GridProgress(grid, dict.fromkeys(names, 100), in_flight=64, console=console)
    cells = [cell for cell in grid.cells if cell.evaluation.name == "math500"]
    for cell, done, takeovers, correct in ((cells[0], 800, 0, 300), (cells[1], 137, 2_740, 70)):
        progress.begin(cell)
        progress.progress(cell, Progress("r", total=800, done=1, tokens=500))
        progress.progress(cell, Progress("r", 800, done, tokens=500 * done, takeovers=takeovers, correct=correct))
    with console.capture() as capture:
        console.print(progress.table())
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capture.get())
    assert max(map(len, shown.splitlines())) <= 80
    assert len(shown.splitlines()) <= 24
    assert re.search(r"> guided r=0.04 +137/800 +0.040 +51.1% ", shown)
    assert "gsm8k  0/12" in shown
    assert shown.count(" guided r=") == 2  # of the evaluation that is under way alone
    assert re.search(r"0 of 73 runs, 937 of [\d,]+ samples, about .* left", shown)


def test_no_time_is_promised_before_as_many_samples_have_ended_as_are_in_flight() -> None:
    loaded = load_experiment("paper-qwen3-0.6b")
    grid = build_grid(loaded.spec, loaded.complaints)
    names = {cell.evaluation.name for cell in grid.all_cells}
    progress = GridProgress(grid, dict.fromkeys(names, 100), in_flight=64, console=Console(force_terminal=False))
    cell = grid.cells[0]
    progress.begin(cell)
    progress.progress(cell, Progress("r", total=800, done=1, tokens=50))
    progress.progress(cell, Progress("r", total=800, done=63, tokens=30_000))
    assert progress.left() is None
    progress.progress(cell, Progress("r", total=800, done=64, tokens=40_000))
    assert progress.left() is not None
