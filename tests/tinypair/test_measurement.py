"""Measuring: the record's figures follow from their definitions, and the model card's tables from the record."""

import json
from pathlib import Path

import pytest
import torch

from pair_training.card import BEGIN, END, measured_tables, update_card
from pair_training.evaluation import guided_rollouts
from pair_training.measurement import Measurement, MeasurementConfig
from pair_training.model import load_model
from rrti_sgl.tinypair import bundled_pair, generate, grade, prompt
from rrti_sgl.tinypair.tokenizer import encode

SMALL = MeasurementConfig(
    problems=15,
    seeds=(21, 22),
    calibration_problems=10,
    sampled_problems=3,
    ratios=(0.08,),
)


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    torch.set_num_threads(1)
    folders = bundled_pair()
    return Measurement(load_model(folders.base), load_model(folders.reasoning), SMALL).run()


def test_accuracies_are_those_of_the_problems(record: dict) -> None:
    problems = [p for seed in SMALL.seeds for p in generate(seed, "heldout", 15)]
    model = load_model(bundled_pair().base)
    rollouts = guided_rollouts(model, None, [encode(prompt(p)) for p in problems], None)
    right = [grade(p, r.text)[1] for p, r in zip(problems, rollouts, strict=True)]
    assert record["greedy"]["base"]["accuracy"] == pytest.approx(sum(right) / 30)
    assert record["by_seed"]["base"] == [sum(right[:15]) / 15, sum(right[15:]) / 15]


def test_recovery_is_the_share_of_the_gap_closed(record: dict) -> None:
    accuracy = {name: row["accuracy"] for name, row in record["greedy"].items()}
    guided = record["greedy"][record["headline"]]
    gap = accuracy["reasoning"] - accuracy["base"]
    value, low, high = guided["recovery"]
    assert value == pytest.approx((guided["accuracy"] - accuracy["base"]) / gap)
    assert low <= value <= high
    assert guided["tokens_changed"] <= guided["rho"]


def test_record_survives_json_and_the_card_shows_it(record: dict, tmp_path: Path) -> None:
    assert json.loads(json.dumps(record)) == record
    card = tmp_path / "card.md"
    card.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    update_card(card, record)
    update_card(card, record)
    assert card.read_text() == f"before\n{BEGIN}\n{measured_tables(record)}\n{END}\nafter\n"
    assert f"{record['greedy']['base']['accuracy']:.3f}" in card.read_text()
