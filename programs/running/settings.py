"""Everything that decides a run's result, as one record: stored with the run, compared when a run is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import InitVar, asdict, dataclass, field, fields, replace
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from rrti_sgl.decoding.job import Decoding
from rrti_sgl.engines.wire import Sampling
from rrti_sgl.errors import UsageError, argument, command
from rrti_sgl.grading import load_grader
from rrti_sgl.problems import BENCHMARKS, GivenRows, Part, ProblemSet, Selection, load_problems
from rrti_sgl.programs.options import Option, check, declared, validated
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.registry import find_program
from rrti_sgl.programs.values import Count, Natural, Ratio, Seed, Text
from rrti_sgl.prompts import TEMPLATES, PromptTemplate, load_template
from rrti_sgl.records import RunKind, ScoreKind
from rrti_sgl.science.planning import load_tagger
from rrti_sgl.tokens.special_tokens import SpecialTokens

DEFAULT_K = 20
DRAFT_TOKENS = 12
# In a run's configuration beside its settings: what made it, what became of it later, a branch's token, the arms.
BESIDE = ("kind", "regraded", "forced", "arms")

_LATER_OPTIONS = {"top_k_mass": 1.0, "exchanged": False, "paced_drafts": False}
_LATER_GATE_OPTIONS = ("like", "match", "deferral", "cooldown", "rolling", "entropy_tau")
_NO_GATE = GateOptions()

_problems = partial(Option, panel="Problems", tables=("problems",))
_decoding = partial(Option, panel="Decoding", tables=("decoding",))
_sampling = partial(Option, panel="Decoding", tables=("decoding", "problems"))


def _from_text(value: object) -> object:
    return PromptTemplate(value) if isinstance(value, str) else value


Prompt = Annotated[PromptTemplate | None, BeforeValidator(_from_text), Option('Text with {question}, or "chat".', "Prompts")]
Template = Annotated[
    Text | None,
    _problems("Shipped template, or a TOML file.", panel="Prompts", metavar="NAME[@VERSION]", path=True, load=load_template),
]


@dataclass(frozen=True, slots=True)
class RunSettings:
    """The options of one run. Defaults that the paper does not publish are ours and documented as such.

    `seed` is of everything that is drawn on our side, the positions of `random` and the tokens of takeovers; `problem_seed`
    is another, so that runs of several seeds see the same problems. What is None is left to the problem set (its grader,
    its templates, the longest solution), to all problems, or to the newest calibration that fits. `few_shot` None takes no
    worked example of a shipped template, and all of a template file's.

    Args:
        base_template, reasoning_template: by name or file, in place of `base_prompt` and `reasoning_prompt`, which they
            become.

    Raises:
        UsageError: a value does not fit, a template is not there, or a prompt is given twice; names it.
    """

    program: str
    problems: Annotated[Text, _problems("Problem set by name, or a JSONL, Parquet or CSV file.", path=True)] = (
        "world:heldout"
    )
    limit: Annotated[Count | None, _problems("Take the first so many problems.")] = None
    samples: Annotated[Count, _problems("Samples for each problem.")] = 1
    split: Annotated[Part, _problems("all, or one of two parts without overlap: calibration, evaluation.")] = "all"
    sample_problems: Annotated[Count | None, _problems("Draw so many problems at random.")] = None
    problem_seed: Annotated[Seed, _problems("Of that draw.")] = 0
    question_field: Annotated[Text, _problems("Field of the question, in a file.")] = "question"
    answer_field: Annotated[Text, _problems("Field of the answer, in a file.")] = "answer"
    choices_field: Annotated[Text | None, _problems("Field of the list of choices, in a multiple-choice file.")] = None
    grader: Annotated[
        Text | None,
        _problems(
            "last-number, math-verify, choice, world, or PKG.MODULE:CLASS; the problem set's own by default.",
            metavar="NAME",
            load=load_grader,
        ),
    ] = None
    base_prompt: Prompt = None
    base_template: InitVar[Template] = None
    few_shot: Annotated[Natural | None, Option("Worked examples in the base model's prompt.", "Prompts")] = None
    reasoning_prompt: Prompt = None
    reasoning_template: InitVar[Template] = None
    thinking: Annotated[bool, Option("Reasoning model's chat template.", "Prompts", flag="--thinking/--no-thinking")] = True
    special_tokens: Annotated[SpecialTokens, _decoding("mapped: those of one meaning meet; or as-is.", panel="Prompts")] = (
        "mapped"
    )
    k: Annotated[Natural, _decoding("Top logprobs kept of both models; 0: all.")] = DEFAULT_K
    top_k_mass: Annotated[
        Ratio, _decoding("Store each list up to this share of the mass; metrics are of all k. 1: all k.")
    ] = 1.0
    temperature: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False), _sampling("0 is greedy.")] = 0.0
    top_p: Annotated[Ratio, _sampling("Nucleus of both models.")] = 1.0
    max_new_tokens: Annotated[Count | None, _sampling("Most tokens of a solution.")] = None
    seed: Annotated[Seed, Option("Of all draws on our side, and the servers' where they draw by seeds.", "Decoding")] = 0
    decoding: Annotated[Decoding, _decoding("chunked, or lockstep (the reference).")] = "chunked"
    exchanged: Annotated[
        bool,
        _decoding(
            "The reasoning model writes, and the base model takes over.", flag="--exchanged", tables=("decoding", "programs")
        ),
    ] = False
    draft_tokens: Annotated[Count, _decoding("Most drafted tokens a round.")] = DRAFT_TOKENS
    paced_drafts: Annotated[
        bool, _decoding("Two servers: shorter drafts where takeovers change tokens often.", flag="--paced-drafts")
    ] = False
    score_kind: Annotated[ScoreKind, _decoding("topk, or plugin: exact numbers from the servers.")] = "topk"
    calibration_id: Annotated[
        Text | None, Option("Its id; the newest that fits by default.", "Gate", name="calibration")
    ] = None
    allow_overlap: Annotated[
        bool, _problems("Evaluate on problems of the calibration, too.", panel="Gate", flag="--allow-overlap")
    ] = False
    gate: GateOptions = field(default_factory=GateOptions)
    tagger: Annotated[
        Text | None, _decoding("A planning tagger of your own.", panel="Gate", metavar="PKG.MODULE:CLASS", load=load_tagger)
    ] = None

    def __post_init__(self, base_template: str | None, reasoning_template: str | None) -> None:
        find_program(self.program)
        check(self)
        for side, template in (("base", base_template), ("reasoning", reasoning_template)):
            if template is not None:
                if getattr(self, f"{side}_prompt") is not None:
                    raise UsageError(
                        f"Both {argument(f'{side}_prompt')} and {argument(f'{side}_template')} were given.", "Leave one out."
                    )
                object.__setattr__(self, f"{side}_prompt", load_template(template))

    def load_problems(self, rows: GivenRows | None = None) -> ProblemSet:
        """The problems that the settings name, with their grader.

        Args:
            rows: the problems themselves, where they are in memory; `problems` is then their name.

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
            rows=rows,
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
    def prompts(self) -> tuple[PromptTemplate, PromptTemplate]:
        """Of settings that are resolved, what the model that writes is shown and what its guest is: each its own."""
        assert self.base_prompt is not None
        assert self.reasoning_prompt is not None
        own = self.base_prompt, self.reasoning_prompt
        return own[::-1] if self.exchanged else own

    @property
    def sampling(self) -> Sampling:
        """How both models draw."""
        return Sampling(self.temperature, self.top_p)

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values; what later versions added is left out where it is not used, so that hashes stay."""
        values = asdict(self)
        values = {name: value for name, value in values.items() if value != _LATER_OPTIONS.get(name, object)}
        for name in _LATER_GATE_OPTIONS:
            if values["gate"][name] == getattr(_NO_GATE, name):
                del values["gate"][name]
        return values

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], trust: Collection[str] | None = ()) -> RunSettings:
        """Settings as `to_dict` gives them or a run's configuration holds them; fields of a newer version are refused.

        Args:
            stored: the configuration. A store may come from anywhere, and gates, taggers and graders of one's own that it
                names would be imported, so run.
            trust: what may be imported, as `package.module:Class`; None: nothing of these settings will be.

        Raises:
            UsageError: the settings have a field that this version does not know, name code that is not trusted, or the
                run is of another kind.
        """
        kind: RunKind = stored.get("kind", "run")
        if kind == "score":
            raise UsageError(
                "The run scored texts that were given; no program generated them.",
                f"Continue it with `{command('score', resume='RUN')}`; experiments take a sample of `rrti run`.",
            )
        if kind == "frontend":
            raise UsageError("The run was written by programs of SGLang's frontend.", "Name a run of `rrti run`.")
        if kind == "api":
            raise UsageError("The run is of requests to an endpoint.", "Name a run of `rrti run`.")
        known = {known_field.name for known_field in fields(cls)}
        values = {name: value for name, value in stored.items() if name not in BESIDE}
        if unknown := sorted(values.keys() - known):
            raise UsageError(
                f"The stored run has settings that this version does not know: {', '.join(unknown)}.",
                "Resume it with the version that started it.",
            )
        code = [spec for spec in (values["gate"]["gate"], values["tagger"], values["grader"]) if spec and ":" in spec]
        if foreign := [spec for spec in code if trust is not None and spec not in trust]:
            raise UsageError(
                f"The stored run names code of its own, {', '.join(foreign)}; it is run only if you say so.",
                f"If you trust it: {argument('trust', foreign)}",
            )
        values["gate"] = GateOptions(**values["gate"])
        for name in ("base_prompt", "reasoning_prompt"):
            values[name] = None if values[name] is None else PromptTemplate.from_dict(values[name])
        return cls(**values)

    def digest(self, problem_set: ProblemSet) -> str:
        """Hash of the settings and of the problems that they name."""
        problems = [(problem.problem_id, problem.answer) for problem in problem_set.problems]
        content = json.dumps([self.to_dict(), problems], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def settings_from(program: str, **options: Any) -> RunSettings:
    """The settings that a command line, an experiment file or a Python call asks for.

    Args:
        program: name of the program.
        options: by the names of the command line with `_` for `-`, those of the gate among them: `tau=0.5`, `problems=...`,
            `base_template=...`, `lambda_value=2.0`. As `lambda` is no name in Python, `use_lambda` is its name, too.
            A factor switches lambda on. A prompt is a `PromptTemplate` or its text.

    Raises:
        UsageError: names every option that there is not, and every value that does not fit.
    """
    values = validated(options, RunSettings, GateOptions)
    gate = {entry.field: values.pop(entry.field) for entry in declared(GateOptions).values() if entry.field in values}
    if gate.get("lambda_") is not None:
        gate.setdefault("use_lambda", True)
    if gate.get("gate_params") and gate.get("gate") is None:
        raise UsageError(f"{argument('gate_params')} is of a gate of your own; none is named.", "Name it, or leave it out.")
    return RunSettings(program, **values, gate=GateOptions(**gate))


def calibration_settings(**options: Any) -> RunSettings:
    """The settings of the rollouts that thresholds are taken from: program `diagnose`, of a benchmark the calibration part.

    Args:
        options: as in `settings_from`.

    Raises:
        UsageError: see `settings_from`.
    """
    part = "calibration" if options.get("problems") in BENCHMARKS else "all"
    return settings_from("diagnose", **{"split": part, **options})
