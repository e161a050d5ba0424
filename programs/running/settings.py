"""Everything that decides a run's result, as one record: stored with the run, compared when a run is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, get_args

from rrti_sgl.decoding.engine import Decoding
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.errors import UsageError
from rrti_sgl.problems import Part, ProblemSet, Selection, load_problems
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.registry import find_program
from rrti_sgl.prompts import TEMPLATES, PromptTemplate, load_template
from rrti_sgl.records import ScoreKind
from rrti_sgl.science.divergences import METRICS
from rrti_sgl.tokens.special_tokens import SpecialTokens

DEFAULT_K = 20
DRAFT_TOKENS = 12
GIVEN_TEXTS = "input"  # the key under which a run of `rrti score` stores where its texts came from


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The options of one run. Defaults that the paper does not publish are ours and documented as such.

    Args:
        program: name of the program.
        problems: problem set by name, or the path of a JSONL, Parquet or CSV file.
        limit: the first so many problems; None takes all.
        samples: samples for each problem.
        k: top log-probabilities kept of both models; 0 keeps the whole vocabulary.
        temperature: of both models' draws; 0 is greedy.
        top_p: nucleus of both models' draws.
        max_new_tokens: most tokens of a solution; None takes what suits the problem set.
        seed: of everything drawn on our side (positions of `random`, takeover tokens).
        decoding: "chunked", or "lockstep" for the reference.
        draft_tokens: drafted tokens a round in chunked decoding.
        score_kind: "topk", or "plugin" for exact numbers from servers that have the plugin.
        calibration_id: the calibration that the gate takes its thresholds from.
        gate: options of the gate.
        base_prompt: template of the base model's prompt; None takes what suits the problem set.
        reasoning_prompt: template of the reasoning model's prompt; None likewise.
        question_field, answer_field, choices_field: fields of a problem file.
        tagger: planning tagger, `package.module:Class`; None takes the built-in word lists.
        split: "calibration" and "evaluation" are two parts of a problem set that share no problem.
        sample_problems: draw so many problems of it; None takes all.
        problem_seed: of that draw; not `seed`, so that runs of several seeds see the same problems.
        few_shot: worked examples in the base prompt; None: none of a shipped template's, all of a template file's.
        thinking: whether the reasoning model's chat template is told to think.
        grader: by name or `package.module:Class`; None takes the problem set's.
        allow_overlap: take a calibration that was made on some of the problems that are evaluated.
        special_tokens: "mapped" lets special tokens of one meaning meet, see `rrti_sgl.tokens.special_tokens`.
    """

    program: str
    problems: str = "world:heldout"
    limit: int | None = None
    samples: int = 1
    k: int = DEFAULT_K
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int | None = None
    seed: int = 0
    decoding: Decoding = "chunked"
    draft_tokens: int = DRAFT_TOKENS
    score_kind: ScoreKind = "topk"
    calibration_id: str | None = None
    gate: GateOptions = field(default_factory=GateOptions)
    base_prompt: PromptTemplate | None = None
    reasoning_prompt: PromptTemplate | None = None
    question_field: str = "question"
    answer_field: str = "answer"
    tagger: str | None = None
    choices_field: str | None = None
    split: Part = "all"
    sample_problems: int | None = None
    problem_seed: int = 0
    few_shot: int | None = None
    thinking: bool = True
    grader: str | None = None
    allow_overlap: bool = False
    special_tokens: SpecialTokens = "mapped"

    def __post_init__(self) -> None:
        find_program(self.program)
        if self.gate.metric not in METRICS:
            raise UsageError(f"Metric {self.gate.metric!r} is unknown.", f"Use one of {', '.join(METRICS)}.")
        if self.decoding not in get_args(Decoding):
            raise UsageError(f"Decoding {self.decoding!r} is unknown.", f"Use one of {', '.join(get_args(Decoding))}.")
        if self.score_kind not in ("topk", "plugin"):
            raise UsageError(
                f"--score-kind {self.score_kind!r} is unknown.", "Use topk or plugin; --k 0 is exact throughout."
            )
        if self.special_tokens not in get_args(SpecialTokens):
            known = ", ".join(get_args(SpecialTokens))
            raise UsageError(f"--special-tokens {self.special_tokens!r} is unknown.", f"Use one of {known}.")
        least_values = {"samples": 1, "k": 0, "max_new_tokens": 1, "draft_tokens": 1, "few_shot": 0}
        for name, least in least_values.items():
            value = getattr(self, name)
            if value is not None and value < least:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} {value} is too small.", f"Use at least {least}.")
        if not 0.0 <= self.temperature <= 10.0:
            raise UsageError(f"--temperature {self.temperature} is outside 0..10.", "0 is greedy.")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"--top-p {self.top_p} is outside (0, 1].", "1 keeps the whole distribution.")

    def load_problems(self) -> ProblemSet:
        """The problems that the settings name, with their grader.

        Raises:
            UsageError, ProblemFileError: see `rrti_sgl.problems.load_problems`.
        """
        return load_problems(
            self.problems,
            question_field=self.question_field,
            answer_field=self.answer_field,
            choices_field=self.choices_field,
            selection=Selection(self.split, self.sample_problems, self.problem_seed, self.limit),
            grader=self.grader,
        )

    def resolved(self, problem_set: ProblemSet, vocab_size: int) -> RunSettings:
        """The settings with everything filled in that was left to the problem set or the vocabulary.

        Raises:
            UsageError: more worked examples are asked for than the base template has.
        """
        base = self.base_prompt or load_template(problem_set.base_template)
        shots = 0 if base.name in TEMPLATES else len(base.examples)
        reasoning = self.reasoning_prompt or load_template(problem_set.reasoning_template)
        return replace(
            self,
            k=self.k or vocab_size,
            max_new_tokens=self.max_new_tokens or problem_set.max_new_tokens,
            base_prompt=base.few_shot(shots if self.few_shot is None else self.few_shot),
            reasoning_prompt=replace(reasoning, thinking=self.thinking and reasoning.thinking),
        )

    @property
    def sampling(self) -> Sampling:
        """How both models draw."""
        return Sampling(self.temperature, self.top_p)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> RunSettings:
        """Settings as a run stored them; fields of a newer version are refused.

        Raises:
            UsageError: the stored settings have a field that this version does not know, or are those of `rrti score`.
        """
        if GIVEN_TEXTS in stored:
            raise UsageError(
                "The run scored texts that were given; no program generated them.",
                "Continue it with `rrti score --resume`; experiments take a sample of `rrti run`.",
            )
        known = {known_field.name for known_field in fields(cls)}
        stored = {name: value for name, value in stored.items() if name != "regraded"}  # what became of the run later
        if unknown := sorted(set(stored) - known):
            raise UsageError(
                f"The stored run has settings that this version does not know: {', '.join(unknown)}.",
                "Resume it with the version that started it.",
            )
        values = dict(stored)
        values["gate"] = GateOptions(**values["gate"])
        for name in ("base_prompt", "reasoning_prompt"):
            values[name] = None if values[name] is None else PromptTemplate.from_dict(values[name])
        return cls(**values)

    def digest(self, problem_set: ProblemSet) -> str:
        """Hash of the settings and of the problems that they name."""
        problems = [(problem.problem_id, problem.answer) for problem in problem_set.problems]
        content = json.dumps([self.to_dict(), problems], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]
