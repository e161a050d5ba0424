"""The public face on a pair without servers."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

import rrti_sgl as rr
from tests.public.conftest import N, toy_session

Options = dict[str, Any]
QUESTION = "w1 w2 w3"
ROOT = Path(__file__).resolve().parents[2]


def test_a_run_without_a_store(pair: rr.ModelPair, options: Options) -> None:
    run = pair.run("guided", **options)
    assert run.record.status == "finished"
    assert len(run.samples) == len({sample.sample_id for sample in run.samples}) == N
    assert [sample.sample_id for sample in run.samples[1:3]] == [run.samples[1].sample_id, run.samples[2].sample_id]
    assert run.samples[run.samples[-1].sample_id].text == run.samples[-1].text
    assert run.summary.to_pandas()["n_samples"].tolist() == [N]
    accuracy = run.statistic("accuracy", resamples=0).to_pandas()
    assert accuracy["run_id"].tolist() == [run.run_id]


def test_a_run_into_a_store(pair: rr.ModelPair, options: Options, tmp_path: Path) -> None:
    with rr.open(tmp_path / "t.duckdb") as store:
        first = pair.run("guided", store=store, **options)
        assert store.run("guided").run_id == first.run_id
        assert store.runs.to_pandas()["run_id"].tolist() == [first.run_id]
    with rr.open(tmp_path / "t.duckdb", read_only=True) as store:
        assert store.run(first.run_id).samples[0].text
        assert store.sample(store.run(first.run_id).samples[2].sample_id).problem.answer == "1"
        assert (
            store.sql("SELECT count(*) AS n FROM samples WHERE run_id = $run", {"run": first.run_id}).data["n"][0].as_py()
            == N
        )


def test_tokens_are_those_of_the_trace(pair: rr.ModelPair, options: Options) -> None:
    sample = pair.run("guided", **options).samples[0]
    frame = sample.tokens.to_pandas()
    assert frame["token_id"].tolist() == sample.trace.tokens.token_id.tolist()
    np.testing.assert_array_equal(frame["ce"].to_numpy(), sample.trace.tokens.ce)
    assert pl.DataFrame(sample.tokens)["position"].to_list() == list(range(sample.record.n_tokens))
    assert isinstance(frame, pd.DataFrame)


def test_a_sample_draws_itself(pair: rr.ModelPair, options: Options) -> None:
    sample = next(each for each in pair.run("guided", **options).samples if each.record.n_changed)
    text, page = repr(sample), sample._repr_html_()
    assert sample.problem.question in text
    assert " -> " in text
    assert "\x1b" not in text
    assert page.startswith("<pre")
    assert "background-color: #" in page
    assert "line-through" in page
    with pytest.raises(rr.UsageError, match="'cee' is unknown"):
        sample.view("cee")


def test_what_a_notebook_shows_is_shown_once(pair: rr.ModelPair, options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr("rich.jupyter.display", lambda *args: shown.append(args))
    run = pair.run("guided", **options)
    for each in (run, run.samples[0], run.statistic("accuracy")):
        assert repr(each)
        assert "<" in each._repr_html_()
    assert shown == []


def test_generate_is_the_run_of_one_question(pair: rr.ModelPair, options: Options, tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    path.write_text(json.dumps({"question": QUESTION, "answer": "1"}))
    stored = pair.run("guided", **options | {"problems": str(path)}).samples[0]
    sample = pair.generate(QUESTION)  # with the options of that run
    assert sample.trace.tokens.token_id.tolist() == stored.trace.tokens.token_id.tolist()
    assert sample.correct is None
    assert len(pair.store.runs) == 1  # it is not stored
    other = pair.generate(QUESTION, tau=1e9)
    assert other.record.n_takeovers == 0


def test_generate_needs_a_threshold(pair: rr.ModelPair) -> None:
    with pytest.raises(rr.UsageError, match="tau is not known"):
        pair.generate(QUESTION, base_template="bare@1", reasoning_template="bare@1", max_new_tokens=30, k=4)


def test_a_stream_is_what_is_generated(pair: rr.ModelPair, options: Options) -> None:
    chosen = {name: value for name, value in options.items() if name != "problems"}
    sample = pair.generate(QUESTION, **chosen)
    events = list(pair.stream(QUESTION, draft_tokens=2, **chosen))
    tokens: list[int] = []
    for event in events[:-1]:
        if isinstance(event, rr.TokensAccepted):
            tokens += event.token_ids
        elif isinstance(event, rr.Takeover):
            tokens.append(event.token_id)
    assert tokens == sample.trace.tokens.token_id.tolist()
    assert isinstance(events[-1], rr.Finished)
    assert "".join(event.text for event in events if isinstance(event, rr.TextSettled)).strip() == sample.text.strip()
    assert len(events) > 4


def test_a_stream_that_is_left_early_leaves_the_pair_usable(pair: rr.ModelPair, options: Options) -> None:
    chosen = {name: value for name, value in options.items() if name != "problems"}
    for _ in range(6):  # more than may be in flight
        stream = pair.stream(QUESTION, draft_tokens=1, **chosen)
        assert isinstance(next(iter(stream)), rr.TokensAccepted | rr.Takeover | rr.TextSettled)
        stream.close()
    assert pair.generate(QUESTION, **chosen).text


def test_what_fails_in_a_stream_is_raised(pair: rr.ModelPair) -> None:
    with pytest.raises(rr.UsageError, match="did you mean tau"):
        list(pair.stream(QUESTION, taw=0.5))


def test_twins_in_a_running_event_loop(pair: rr.ModelPair, options: Options) -> None:
    chosen = {name: value for name, value in options.items() if name != "problems"}

    async def go() -> tuple[rr.Run, rr.Sample, rr.Sample, list[Any], rr.Table]:
        run, sample = await asyncio.gather(pair.arun("guided", **options), pair.agenerate(QUESTION, **chosen))
        waited = pair.generate(QUESTION, **chosen)  # as a notebook's cell does, inside of its loop
        events = [event async for event in pair.astream(QUESTION, **chosen)]
        return run, sample, waited, events, await run.astatistic("accuracy", resamples=0)

    run, sample, waited, events, accuracy = asyncio.run(go())
    assert sample.text == waited.text
    assert isinstance(events[-1], rr.Finished)
    assert len(run.samples) == N
    assert len(accuracy) == 1


def test_calibrate_then_run(pair: rr.ModelPair, options: Options) -> None:
    del options["tau"]
    calibration = pair.calibrate(spike_ratio=0.2, **options)
    run = pair.run("guided", allow_overlap=True, **options)
    assert run.record.calibration_id == calibration.calibration_id
    assert run.record.tau == calibration.tau
    assert pair.generate(QUESTION).run.tau == calibration.tau
    found = pair.store.whatif("diagnose", budgets=[0.1])
    assert found.table.to_pandas()["budget"].item() == pytest.approx(0.1, abs=0.05)


def test_diagnose_and_whatif(pair: rr.ModelPair, options: Options) -> None:
    run = pair.diagnose(**options)
    [row] = run.whatif(tau=2.0).rows
    scores = np.concatenate([sample.trace.tokens.ce for sample in run.samples])
    assert row["n_fired"] == int((scores > 2.0).sum())
    with pytest.raises(rr.UsageError, match="did you mean budgets"):
        run.whatif(budget=[0.1])


def test_score(pair: rr.ModelPair, tmp_path: Path) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(
        json.dumps({"question": QUESTION, "response": "w2 w4 w5", "prompt": QUESTION, "reasoning_prompt": QUESTION})
    )
    run = pair.score(path, fields={"text": "response"}, k=4)
    [sample] = run.samples
    assert sample.text == "w2 w4 w5"
    assert np.isfinite(sample.trace.tokens.ce).all()
    with path.open("a") as file:
        file.write("\n" + json.dumps({"question": QUESTION}) + "\n")
    with pytest.raises(rr.UsageError, match="skip="):
        pair.score(path, fields={"text": "response"}, k=4)
    assert len(pair.score(path, fields={"text": "response"}, k=4, skip=True).samples) == 1


def test_counterfactual(pair: rr.ModelPair, options: Options) -> None:
    run = pair.run("guided", **options)
    sample = next(each for each in run.samples if each.record.n_changed)
    found = pair.counterfactual(sample)
    changed = (sample.trace.tokens.base_token_id >= 0) & (sample.trace.tokens.base_token_id != sample.trace.tokens.token_id)
    assert found.table.to_pandas()["position"].tolist() == np.flatnonzero(changed).tolist()
    assert found.run.record.program == "counterfactual"


@pytest.mark.usefixtures("drawn_once")
def test_report_and_export(pair: rr.ModelPair, options: Options, tmp_path: Path) -> None:
    run = pair.run("guided", **options)
    report = run.report(tmp_path / "report")
    assert (tmp_path / "report" / "report.html").is_file()
    assert "accuracy" in {finished.section.name for finished in report.sections}
    assert pd.read_csv(pair.store.export("runs", tmp_path / "runs.csv"))["run_id"].tolist() == [run.run_id]
    assert "tabular" in pair.store.export("runs", tmp_path / "runs.tex").read_text()
    with pytest.raises(rr.UsageError, match="that of no format"):
        pair.store.export("runs", tmp_path / "runs.doc")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"limt": 3}, "did you mean limit"),
        ({"tau": "high"}, "tau='high'"),
        ({"metric": "reverse-kl"}, "did you mean reverse_kl"),
    ],
)
def test_wrong_options_suggest_the_right_one(pair: rr.ModelPair, wrong: Options, message: str) -> None:
    with pytest.raises(rr.UsageError, match=message):
        pair.run("guided", **wrong)


def test_a_program_that_there_is_not(pair: rr.ModelPair) -> None:
    with pytest.raises(rr.UsageError, match="giuded"):
        pair.run("giuded", tau=0.5)


def test_generate_takes_no_problems(pair: rr.ModelPair) -> None:
    with pytest.raises(rr.UsageError, match="'limit' chooses problems"):
        pair.generate(QUESTION, tau=0.5, limit=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "bundle"}, "There is no pair 'bundle'"),
        ({"name": "bundled", "base": "x"}, "Leave one out"),
        ({"base": "x"}, "Half a pair"),
        ({"replicas": 0}, "replicas=0 is below 1"),
    ],
)
def test_serve_refuses(given: Options, message: str) -> None:
    with pytest.raises(rr.UsageError, match=message):
        rr.serve(**given)


def test_connect_to_nothing() -> None:
    with pytest.raises(rr.EndpointError):
        rr.connect("http://127.0.0.1:9", "http://127.0.0.1:9")


def test_a_closed_pair(options: Options) -> None:
    pair = rr.ModelPair(toy_session())
    run = pair.run("guided", **options)
    pair.close()
    pair.close()
    assert len(run.samples) == N  # its temporary store is there as long as the run
    with pytest.raises(rr.UsageError, match="is closed"):
        pair.run("guided", **options)


def test_a_temporary_store_goes_with_its_last_run(options: Options) -> None:
    with rr.ModelPair(toy_session()) as pair:
        run = pair.run("guided", **options)
    folder = run.store.path.parent
    assert folder.is_dir()
    del run, pair
    gc.collect()
    assert not folder.exists()


_LEFT_OPEN = """
import asyncio
from contextlib import asynccontextmanager

import rrti_sgl as rr
from rrti_sgl.programs.running.session import PairSession
from tests.toy_pair import toy_pair

class Started:
    def close(self): print("stopped", flush=True)

@asynccontextmanager
async def opening():
    async with PairSession(toy_pair()) as session:
        yield session
    print("left", flush=True)

from contextlib import ExitStack, closing
stack = ExitStack()
stack.enter_context(closing(Started()))
pair = rr.ModelPair(opening(), stack)
shown = {"base_template": "bare@1", "reasoning_template": "bare@1"}
print(pair.generate("w1 w2", tau=2.0, max_new_tokens=5, k=4, **shown).record.n_tokens)
"""


def test_what_is_left_open_is_closed_when_python_ends() -> None:
    done = subprocess.run([sys.executable, "-c", _LEFT_OPEN], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["left", "stopped"]
    assert done.stderr == ""


@pytest.mark.parametrize("kind", ["list", "generator", "pandas", "polars", "pyarrow", "datasets"])
def test_problems_in_memory_are_those_of_a_file(pair: rr.ModelPair, options: Options, kind: str) -> None:
    rows = [json.loads(line) for line in Path(options["problems"]).read_text().splitlines()]
    given: Any = rows
    if kind == "generator":
        given = iter(rows)
    elif kind == "pandas":
        given = pytest.importorskip("pandas").DataFrame(rows)
    elif kind == "polars":
        given = pytest.importorskip("polars").DataFrame(rows)
    elif kind == "pyarrow":
        given = pytest.importorskip("pyarrow").Table.from_pylist(rows)
    elif kind == "datasets":
        given = pytest.importorskip("datasets").Dataset.from_list(rows)
    of_file, run = pair.run("guided", **options), pair.run("guided", **options | {"problems": given})
    answers = [{sample.problem.question: sample.text for sample in each.samples} for each in (of_file, run)]
    assert answers[0] == answers[1]
    assert run.record.problem_set.startswith("rows:")
    assert run.record.problem_set == pair.run("base", **options | {"problems": rows}).record.problem_set


def test_a_run_of_rows_is_resumed_with_the_same_rows(pair: rr.ModelPair, options: Options) -> None:
    rows = [json.loads(line) for line in Path(options["problems"]).read_text().splitlines()]
    chosen = options | {"problems": rows}

    def stop(progress: Any) -> None:
        if progress.done == 2:
            raise rr.StoreError("The disk is full.")

    with pytest.raises(rr.StoreError, match=r"full.*Continue with: run\(\.\.\., resume='guided-"):
        pair.run("guided", on_progress=stop, **chosen)
    [broken] = pair.store.sql("SELECT run_id FROM runs").to_pandas()["run_id"]
    changed = [rows[0] | {"answer": "2"}, *rows[1:]]
    with pytest.raises(rr.RRTIError, match=r"rows:"):
        pair.run("guided", resume=broken, **options | {"problems": changed})
    assert len(pair.run("guided", resume=broken, **chosen).samples) == N
    assert len(pair.run_seeds("random", 2, **chosen)) == 2


def test_a_takeover_of_a_run_of_rows_can_be_denied(pair: rr.ModelPair, options: Options) -> None:
    rows = [json.loads(line) for line in Path(options["problems"]).read_text().splitlines()]
    run = pair.run("guided", **options | {"problems": rows})
    sample = next(each for each in run.samples if each.record.n_changed)
    assert len(pair.counterfactual(sample).effects) == sample.record.n_changed


@pytest.mark.parametrize(
    ("problems", "message"),
    [
        (3, "problems= holds no rows but a int"),
        ({"question": ["a"]}, "problems= holds no rows but a dict"),
        ([], "problems= holds no problem"),
        ([{"question": "a"}, 3, {"text": "b"}], r"2 problems.*\n.*row 2: a int, not a dict.*\n.*row 3: field 'question'"),
    ],
)
def test_what_is_no_problem_is_named(pair: rr.ModelPair, options: Options, problems: Any, message: str) -> None:
    with pytest.raises(rr.UsageError, match=message):
        pair.run("base", **options | {"problems": problems})
