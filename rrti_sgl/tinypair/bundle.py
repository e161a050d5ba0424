"""The pair that ships with the package, and the problems to run it on."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rrti_sgl.tinypair.problems import WorldProblem
from rrti_sgl.tinypair.world import generate

BASE_NAME = "bundled/base"  # what a server of the bundled base model calls it


@dataclass(frozen=True, slots=True)
class BundledPair:
    """Model folders of the bundled pair, as ``transformers`` and SGLang load them."""

    base: Path
    reasoning: Path


def bundled_pair() -> BundledPair:
    """Return the folders of the two bundled models.

    Raises
    ------
    FileNotFoundError
        If the package was installed without its weights.
    """
    root = Path(str(files("rrti_sgl.tinypair").joinpath("weights")))
    pair = BundledPair(root / "base", root / "reasoning")
    for folder in (pair.base, pair.reasoning):
        if not (folder / "model.safetensors").is_file():
            raise FileNotFoundError(f"the bundled weights are missing: {folder}")
    return pair


def heldout_problems(n: int, seed: int = 0) -> list[WorldProblem]:
    """Return problems that no training stream contains, for measuring."""
    return list(generate(seed, "heldout", n))


def calibration_problems(n: int, seed: int = 0) -> list[WorldProblem]:
    """Return problems for calibrating a gate, apart from both training and held-out problems."""
    return list(generate(seed, "calibration", n))
