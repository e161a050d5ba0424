"""Make the pair: ``python -m natural_pair``, which `make natural` calls."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.logging import RichHandler
from transformers.utils.logging import disable_progress_bar

from natural_pair.adapter import merge, read_adapter, save_adapter
from natural_pair.expert_iteration import HERE, right_solutions, sample
from natural_pair.pretrained import smollm2
from natural_pair.stories import PARTS, Problem, problems
from natural_pair.training import Report, TrainingConfig, documents, train
from rrti_sgl.prompts import load_template
from rrti_sgl.tokens.vocabulary import load_vocabulary

log = logging.getLogger("natural_pair")
SHIPPED = HERE / "adapter.safetensors"
_ROUND_SEED = 1000  # training problems of round n are those of seed 1000 + n


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is trained and measured."""

    worked: int = 2000
    rounds: int = 1
    round_problems: int = 240
    round_samples: int = 4
    round_kept: int = 2
    calibration: int = 80
    heldout: int = 200
    unseen: int = 80


TINY = Sizes(worked=48, rounds=1, round_problems=4, round_samples=2, calibration=4, heldout=6, unseen=4)
SUPERVISED = TrainingConfig(learning_rate=1.5e-3)
ROUND = TrainingConfig(learning_rate=5e-4, seed=1)


class Making:
    """The stages, each with its result in the folder: what is there is not made again."""

    def __init__(self, out: Path, sizes: Sizes, report: Report) -> None:
        self._out = out
        self._sizes = sizes
        self._report = report
        self._base = smollm2()
        self._prompt = load_template(str(HERE / "reasoning.toml"))
        self._vocabulary = load_vocabulary(str(self._base))

    def problem_files(self) -> None:
        """`problems/*.jsonl`: what is calibrated on and evaluated on."""
        for part in PARTS[1:]:
            self._problem_file(part, problems(part, 0, short=True), getattr(self._sizes, part))

    def from_shipped(self) -> None:
        """The reasoning model from the adapter that lies beside this module."""
        self._models(SHIPPED)

    def from_scratch(self) -> None:
        """The reasoning model by training: on worked solutions, then on what it solves itself."""
        adapter = self._supervised()
        for number in range(1, self._sizes.rounds + 1):
            adapter = self._round(number, adapter)
        self._models(adapter)

    def _supervised(self) -> Path:
        adapter = self._out / "supervised.safetensors"
        if not adapter.exists():
            worked = list(islice(problems("train", 0), self._sizes.worked))
            docs = documents(((p.question, p.solution) for p in worked), self._prompt, self._vocabulary)
            self._train("supervised", None, docs, SUPERVISED, {"solutions": len(worked)})
        return adapter

    def _round(self, number: int, start: Path) -> Path:
        name, sizes = f"round-{number}", self._sizes
        adapter, model, store = (self._out / f"{name}{suffix}" for suffix in (".safetensors", "", ".duckdb"))
        if adapter.exists():
            return adapter
        if not model.is_dir():
            merge(self._base, read_adapter(start), model)
        asked = self._problem_file(name, problems("train", _ROUND_SEED + number, short=True), sizes.round_problems)
        started = time.monotonic()
        sample(self._base, model, asked, sizes.round_samples, store)
        seconds = time.monotonic() - started
        solved, right = right_solutions(store, sizes.round_kept, number)
        log.info("%s: %.1f %% of the samples are right; %d solutions are kept", name, 100 * right, len(solved))
        docs = documents(solved, self._prompt, self._vocabulary)
        told = {"samples_right": right, "solutions": len(solved), "sampling_s": round(seconds)}
        self._train(name, start, docs, replace(ROUND, seed=number), told)
        return adapter

    def _train(self, name: str, start: Path | None, docs: Any, config: TrainingConfig, told: dict[str, Any]) -> None:
        started = time.monotonic()
        begun = read_adapter(start) if start else None
        weights = train(self._base, begun, docs, config, self._out / f"{name}.pt", self._report)
        told |= {"tokens": sum(len(doc.ids) for doc in docs), "training_s": round(time.monotonic() - started)}
        record = {"stage": name, **told, **asdict(config)}
        (self._out / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
        save_adapter(weights, self._out / f"{name}.safetensors")
        log.info("%s", record)

    def _models(self, adapter: Path) -> None:
        """`base` and `reasoning`, as the experiment file names them."""
        base = self._out / "base"
        if not base.exists():
            base.symlink_to(self._base.resolve())
        merge(self._base, read_adapter(adapter), self._out / "reasoning")
        log.info("models: %s, %s", base, self._out / "reasoning")

    def _problem_file(self, name: str, drawn: Any, n: int) -> Path:
        path = self._out / "problems" / f"{name}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        chosen: list[Problem] = list(islice(drawn, n))
        path.write_text("".join(json.dumps(problem.row()) + "\n" for problem in chosen), encoding="utf-8")
        return path


def _reporter(every: int) -> Callable[[str, int, int, float], None]:
    started = time.monotonic()

    def report(phase: str, step: int, n_steps: int, loss: float) -> None:
        if step % every == 0 or step in (1, n_steps):
            log.info("%s %d/%d loss %.4f, %.0f s", phase, step, n_steps, loss, time.monotonic() - started)

    return report


def main(
    out: Annotated[Path, typer.Option(help="Folder for problems, checkpoints and both model folders.")],
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the adapter again; else the shipped one is merged.")
    ] = False,
    tiny: Annotated[bool, typer.Option("--tiny", help="Every stage at a size of minutes: to try the machinery.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Make problems, base and reasoning model. Run it again to go on after an interruption."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler(show_path=False)])
    disable_progress_bar()
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    making = Making(out, TINY if tiny else Sizes(), _reporter(1 if tiny else 10))
    making.problem_files()
    if from_scratch:
        making.from_scratch()
    else:
        making.from_shipped()


if __name__ == "__main__":
    typer.run(main)
