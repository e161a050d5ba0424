"""Experiment files: what one TOML file says of models, servers, programs, problem sets and sampling.

Reading a file finds everything in it that is wrong by itself, with line numbers, all at once. What depends on tokenizers,
problems and GPUs is checked in `rrti_sgl.programs.experiments`. The shipped experiments lie beside this module.
"""

from rrti_sgl.programs.experiments.complaints import Complaint, Complaints
from rrti_sgl.programs.experiments.loading import (
    LoadedExperiment,
    load_experiment,
    on_running,
    shipped,
    shipped_text,
    through_endpoint,
)
from rrti_sgl.programs.experiments.spec import (
    BUNDLED,
    EvaluationSpec,
    ExperimentSpec,
    ModelSpec,
    ProgramSpec,
    ReasoningModelSpec,
    with_tokenizers,
)

__all__ = [
    "BUNDLED",
    "Complaint",
    "Complaints",
    "EvaluationSpec",
    "ExperimentSpec",
    "LoadedExperiment",
    "ModelSpec",
    "ProgramSpec",
    "ReasoningModelSpec",
    "load_experiment",
    "on_running",
    "shipped",
    "shipped_text",
    "through_endpoint",
    "with_tokenizers",
]
