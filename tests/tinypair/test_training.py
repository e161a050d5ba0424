"""Training: batches, the loss's normalisation, and resuming after a kill."""

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from pair_training.corpus import documents
from pair_training.model import load_model, new_model, save_model
from pair_training.training import PoolStream, TrainingConfig, make_batches, pretrain

TINY = TrainingConfig(
    pretrain_steps=8,
    batch_tokens=500,
    pool_documents=12,
    loss_tokens=250,
    checkpoint_every=3,
    rounds=1,
    round_problems=4,
    round_samples=2,
    round_epochs=1,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def silent(phase: str, step: int, n_steps: int, loss: float) -> None:
    assert 0 < step <= n_steps
    assert loss > 0


def test_batches_hold_every_document_once_within_the_limit() -> None:
    docs = list(islice(documents(0), 100))
    batches = make_batches(docs, 700, random.Random(0))
    assert sorted(d.ids for batch in batches for d in batch) == sorted(d.ids for d in docs)
    assert all(len(batch) * max(len(d.ids) for d in batch) <= 700 for batch in batches)


def test_stream_resumes_across_pools() -> None:
    whole = PoolStream(TINY)
    batches = [whole.next() for _ in range(7)]
    assert whole.pool > 1
    for at in range(7):
        first = PoolStream(TINY)
        for _ in range(at):
            first.next()
        assert PoolStream(TINY, first.pool, first.offset).next() == batches[at]


def test_killed_and_resumed_pretraining_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole = pretrain(TINY, tmp_path / "whole", silent)
    for stop in (2, 5):
        pretrain(TINY, tmp_path / "killed", silent, stop_at=stop)
    resumed = pretrain(TINY, tmp_path / "killed", silent)
    fresh = new_model(TINY.seed).state_dict()
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    assert not torch.equal(fresh["model.embed_tokens.weight"], whole.model.embed_tokens.weight)


def test_loss_falls(tmp_path: Path) -> None:
    losses: list[float] = []
    config = replace(TINY, pretrain_steps=25, batch_tokens=1000, pool_documents=200)
    pretrain(config, tmp_path, lambda *report: losses.append(report[-1]))
    assert sum(losses[-3:]) / 3 < 0.9 * losses[0]


def test_a_saved_model_loads_as_it_was_up_to_bfloat16(tmp_path: Path) -> None:
    model = new_model(0)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    for name, weights in model.state_dict().items():
        assert torch.equal(weights.bfloat16().float(), loaded.state_dict()[name]), name
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
