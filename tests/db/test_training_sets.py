"""Training sets: pairs of one beginning and two tokens, and what both models say of each token of a rollout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from rrti_sgl.cli.main import run
from rrti_sgl.db.store import Store
from rrti_sgl.db.training_sets import training_rows
from rrti_sgl.errors import UsageError
from tests.db.conftest import make_run, make_trace


def arms(parent: str, position: int, shown: str, taken: tuple[str, str | None], denied: tuple[str, str | None]) -> list[Any]:
    """Continuations of two arms: which were right, and the text of the token that each begins with; None: it ended there."""
    traces = []
    for arm, (flags, text) in (("taken", taken), ("denied", denied)):
        for place, flag in enumerate(flags):
            index = 1000 * position + 10 * place + (arm == "denied")
            origin = {"parent_sample_id": parent, "parent_position": position, "arm": arm}
            prompt = None if text is None else shown + text
            traces.append(make_trace("c", "p1", index, correct=flag == "1", base_prompt=prompt, **origin))
    return traces


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store.open(tmp_path / "t.duckdb", precision="exact") as opened:
        tokens = {"fired": np.array([False, True, True, True]), "base_token_id": np.array([10, 90, 91, 92], dtype=np.int32)}
        parent = make_trace("g", "p1", 0, np.arange(4.0), tokens=tokens)
        opened.begin_run(make_run("g"))
        opened.write_samples([parent])
        opened.begin_run(make_run("c", program="counterfactual"))
        key = parent.sample.sample_id
        opened.write_samples(
            [
                *arms(key, 1, "Q:t0", ("1110", "t1"), ("0100", "x1")),  # the takeover is better
                *arms(key, 2, "Q:t0t1", ("0", "t2"), ("1", "x2")),  # worse
                *arms(key, 3, "Q:t0t1t2", ("10", "t3"), ("01", "x3")),  # no difference
                *arms(key, 0, "Q:", ("1", "t0"), ("0", None)),  # a token that ends the solution has no text
            ]
        )
        yield opened


def test_a_pair_is_one_beginning_and_the_token_that_was_right_more_often(store: Store) -> None:
    first, second = training_rows(store, "preferences").to_pylist()
    assert (first["prompt"], first["chosen"], first["rejected"]) == ("Q:t0", "t1", "x1")
    assert (first["chosen_from"], first["chosen_right"], first["rejected_right"]) == ("reasoning", 0.75, 0.25)
    assert (first["chosen_n"], first["rejected_n"], first["chosen_id"], first["rejected_id"]) == (4, 4, 11, 90)
    assert (first["run_id"], first["problem_id"], first["position"], first["score"]) == ("g", "p1", 1, 1.0)
    assert (second["prompt"], second["chosen"], second["rejected"]) == ("Q:t0t1", "x2", "t2")
    assert (second["chosen_from"], second["chosen_id"], second["rejected_id"]) == ("base", 91, 12)
    assert training_rows(store, "preferences", "counterfactual").num_rows == 2


def test_distillation_has_one_number_a_token(store: Store, tmp_path: Path) -> None:
    """The masses on the other's list by hand: of tokens 3 and 5, and of 5 and 7, only 5 is in both."""
    n = 3
    tokens = {
        "reverse_kl": np.array([0.1, 0.2, 0.3]),
        "reasoning_logprob": np.array([-1.0, -2.0, -3.0]),
        "base_tail_mass": np.full(n, 1 - np.exp(-0.5) - np.exp(-1.5)),
        "reasoning_tail_mass": np.full(n, 1 - np.exp(-0.7) - np.exp(-1.2)),
        "reasoning_topk_ids": np.tile(np.array([[5, 7]], dtype=np.int32), (n, 1)),
        "reasoning_topk_logprobs": np.tile(np.array([[-0.7, -1.2]], dtype=np.float32), (n, 1)),
    }
    store.begin_run(make_run("s"))
    store.write_samples([make_trace("s", "p1", 0, tokens=tokens, reasoning_prompt="R:")])
    [row] = training_rows(store, "distillation").to_pylist()
    assert (row["prompt"], row["teacher_prompt"], row["completion"]) == ("Q:", "R:", "t0t1t2")
    assert row["token_ids"] == [10, 11, 12]
    assert row["reverse_kl"] == [0.1, 0.2, 0.3]
    assert (row["student_logprobs"], row["teacher_logprobs"]) == ([-0.0, -1.0, -2.0], [-1.0, -2.0, -3.0])
    assert row["teacher_mass"] == pytest.approx([np.exp(-0.7) + np.exp(-1.2)] * n)
    assert row["teacher_mass_on_student"] == pytest.approx([np.exp(-0.7)] * n)
    assert row["student_mass_on_teacher"] == pytest.approx([np.exp(-1.5)] * n)


def test_datasets_reads_pairs_in_the_columns_of_preference_trainers(store: Store, tmp_path: Path) -> None:
    """TRL's DPO trainer takes `prompt`, `chosen` and `rejected` as texts, and leaves other columns out."""
    from datasets import Value, load_dataset

    pq.write_table(training_rows(store, "preferences"), tmp_path / "pairs.parquet")
    pairs = load_dataset("parquet", data_files=str(tmp_path / "pairs.parquet"), split="train", cache_dir=str(tmp_path))
    assert len(pairs) == 2
    assert {name: pairs.features[name] for name in ("prompt", "chosen", "rejected")} == dict.fromkeys(
        ("prompt", "chosen", "rejected"), Value("string")
    )
    assert pairs[0]["prompt"] + pairs[0]["chosen"] == "Q:t0t1"


def test_sets_are_exported_and_what_is_lacking_is_named(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    path = store.path
    store.close()
    assert run(["export", "preferences", "--db", str(path), "--format", "json"]) == 0
    assert [row["chosen"] for row in json.loads(capsys.readouterr().out)] == ["t1", "x2"]
    with Store.open_readonly(path) as readonly:
        with pytest.raises(UsageError, match="There is no sample with scores of both models in the store"):
            training_rows(readonly, "distillation")
        with pytest.raises(UsageError, match=r"There is no position .* in g"):
            training_rows(readonly, "preferences", "g")
    assert run(["export", "preferences", "--db", str(path), "--set", "k=1"]) == UsageError.exit_code
