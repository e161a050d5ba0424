"""What an experiment came to: which runs it has, by evaluation and label; a file beside its store says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from pydantic import TypeAdapter, ValidationError

from rrti_sgl.errors import StoreError, UsageError
from rrti_sgl.programs.experiments.spec import ExperimentSpec
from rrti_sgl.programs.reporting.writing import write_atomically

STORE = "traces.duckdb"
RECORD = "experiment.json"


@dataclass(frozen=True, slots=True)
class FinishedEvaluation:
    """One of its evaluations.

    Args:
        name: what it is called.
        problems: the problem set, by name or path.
        samples: for each problem.
        seeds: of its runs.
        runs: id by label, in the order of the grid.
    """

    name: str
    problems: str
    samples: int
    seeds: tuple[int, ...]
    runs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinishedExperiment:
    """An experiment of which all runs are stored.

    Args:
        title: the file's.
        models: by side, as the file names them; a guest is "guest NAME".
        upper: the run at the other end of recovery, whose beginning is `base`.
        evaluations: in the order of the file.
    """

    title: str
    models: Mapping[str, str]
    upper: Literal["reasoning", "reference"]
    evaluations: Sequence[FinishedEvaluation]

    @classmethod
    def of(cls, spec: ExperimentSpec, runs: Mapping[tuple[str, str], str]) -> Self:
        """That of a file.

        Args:
            spec: the experiment.
            runs: ids by (evaluation, label).
        """
        evaluations = [
            FinishedEvaluation(
                evaluation.name,
                evaluation.problems,
                evaluation.option("samples"),
                tuple(evaluation.seeds),
                {label: run for (name, label), run in runs.items() if name == evaluation.name},
            )
            for evaluation in spec.evaluations
        ]
        models = {role: model.model for role, model in spec.models.by_role.items()}
        return cls(spec.title, models, "reasoning" if spec.models.reference is None else "reference", evaluations)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """That of a folder.

        Raises:
            UsageError: there is none, or it ended early.
            StoreError: its record is of another version, or damaged.
        """
        path = folder / RECORD
        if not path.is_file():
            raise UsageError(
                f"{folder} has no {RECORD}: no experiment was finished there.",
                "Name the folder `out` of a finished one. `rrti experiment FILE` again writes it, and runs nothing twice.",
            )
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            remedy = "Write it anew: the same `rrti experiment FILE` again, which runs nothing twice."
            raise StoreError(f"{path} cannot be read: {where}: {first['msg']}.", remedy) from None

    def write(self, folder: Path) -> None:
        """Put it beside the store, in place of an older one."""
        write_atomically(folder / RECORD, TypeAdapter(type(self)).dump_json(self, indent=2) + b"\n")
