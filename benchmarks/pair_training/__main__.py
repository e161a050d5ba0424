"""Train and measure the bundled pair: ``python -m pair_training --out DIR``."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.logging import RichHandler
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pair_training.card import load_metrics, update_card
from pair_training.measurement import Measurement, MeasurementConfig
from pair_training.model import load_model, save_model
from pair_training.training import Report, TrainingConfig, expert_iteration, pretrain


def _reporter(progress: Progress) -> Report:
    tasks: dict[str, tuple[int, float]] = {}

    def report(phase: str, step: int, n_steps: int, loss: float) -> None:
        task, smooth = tasks.get(phase) or (int(progress.add_task(phase, total=n_steps, loss=loss)), loss)
        smooth = 0.98 * smooth + 0.02 * loss
        tasks[phase] = (task, smooth)
        progress.update(progress.task_ids[task], completed=step, loss=smooth)

    return report


def _train(config: TrainingConfig, out: Path) -> dict[str, Any]:
    """Write both models; returns the record of the training."""
    started = time.monotonic()
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TextColumn("loss {task.fields[loss]:.4f}")) as progress:
        report = _reporter(progress)
        model = pretrain(config, out / "checkpoints", report)
        save_model(model, out / "base")
        expert_iteration(model, config, out / "checkpoints", report)
        save_model(model, out / "reasoning")
    logging.info("trained for %.1f minutes; measuring", (time.monotonic() - started) / 60)
    return asdict(config)


def main(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, both model folders and metrics.json.")],
    seed: Annotated[int, typer.Option(help="Seed of the whole run.")] = 0,
    pretrain_steps: Annotated[int | None, typer.Option(help="Steps of the pretraining.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds of expert iteration.")] = None,
    problems: Annotated[int, typer.Option(help="Held-out problems measured, for each of three seeds.")] = 1000,
    train: Annotated[bool, typer.Option(help="Without it the pair that is in the folder is measured again.")] = True,
    card: Annotated[Path | None, typer.Option(help="Model card whose measured tables are rewritten.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; more than one barely helps at this size.")] = 1,
) -> None:
    """Pretrain the base model, derive the reasoning model by expert iteration, and measure both.

    Run it again with the same folder to go on after an interruption.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    torch.set_num_threads(threads)
    defaults = TrainingConfig(seed=seed)
    config = replace(
        defaults,
        pretrain_steps=defaults.pretrain_steps if pretrain_steps is None else pretrain_steps,
        rounds=defaults.rounds if rounds is None else rounds,
    )
    training = _train(config, out) if train else load_metrics(out / "metrics.json")["training"]
    # What ships is measured: the written weights, which bfloat16 has rounded.
    measurement = Measurement(load_model(out / "base"), load_model(out / "reasoning"), MeasurementConfig(problems=problems))
    record = {"training": training, **measurement.run()}
    (out / "metrics.json").write_text(json.dumps(record, indent=2) + "\n")
    logging.info("wrote %s", out / "metrics.json")
    if card is not None:
        update_card(card, record)


if __name__ == "__main__":
    typer.run(main)
