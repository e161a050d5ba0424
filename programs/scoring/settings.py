"""What decides the result of `rrti score`, as one record: stored with the run, compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rrti_sgl.errors import UsageError, argument
from rrti_sgl.given_texts import GivenText, TextFields, read_texts
from rrti_sgl.problems import ProblemSet
from rrti_sgl.programs.running.settings import RunSettings, settings_from
from rrti_sgl.rows import Complaints, name_of

SCORE = "score"


@dataclass(frozen=True, slots=True)
class TextInput:
    """Where given texts come from.

    Args:
        path: the file.
        format: one of `rrti_sgl.given_texts.FORMATS`, or "auto".
        fields: which field holds what, as `rrti_sgl.given_texts.TextFields` names them.
        problems: the problem set that the texts answer, by name or path: their gold answers, grader and prompts are its.
            None: the file itself holds the problems.
        end_token: put the base model's end token after texts whose finish_reason is "stop". Token ids are never changed.
        thoughts: put the reasoning parts of an inspect_ai log back before the answer, as `<think>`.
        skip: leave out what cannot be scored, and say how much and what, instead of refusing all of it.
    """

    path: str
    format: str = "auto"
    fields: Mapping[str, str] = field(default_factory=dict)
    problems: str | None = None
    end_token: bool = True
    thoughts: bool = False
    skip: bool = False

    def read(self) -> list[GivenText]:
        """The continuations of the file.

        Raises:
            UsageError: see `rrti_sgl.given_texts.read_texts`.
        """
        skipped = Complaints() if self.skip else None
        names = TextFields.of(self.fields)
        texts = read_texts(Path(self.path), self.format, names, thoughts=self.thoughts, skipped=skipped)
        if skipped:
            skipped.warn("row")
        return texts


@dataclass(frozen=True, slots=True)
class ScoreSettings:
    """The options of one run of `rrti score`.

    Args:
        input: the texts.
        run: the options that it shares with `diagnose`: k, kind of scores, metric, prompts, grader, tagger. A prompt that
            is None there is a row's own where it has one, or else what suits the problem set.
    """

    input: TextInput
    run: RunSettings

    def __post_init__(self) -> None:
        if self.run.exchanged:
            raise UsageError(f"{argument('exchanged', True)} does nothing: nobody writes given texts.", "Leave it out.")

    @classmethod
    def of(cls, source: TextInput, **options: Any) -> ScoreSettings:
        """Settings with options by name (`settings_from`); the problems are named after the file where no set is named."""
        return cls(source, settings_from("diagnose", problems=source.problems or name_of(Path(source.path)), **options))

    def relocated(self, path: Path | None) -> ScoreSettings:
        """The same settings for a file that was moved."""
        return self if path is None else replace(self, input=replace(self.input, path=str(path)))

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return {**self.run.to_dict(), "program": SCORE, "input": asdict(self.input)}

    def stored(self, stops: Sequence[str]) -> dict[str, Any]:
        """The settings as the run keeps them, with what ended a solution in its text, for a later grader."""
        return {"kind": "score", **self.to_dict(), "stops": list(stops)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], trust: Collection[str] | None = ()) -> ScoreSettings:
        """Settings as a run stored them.

        Raises:
            UsageError: see `RunSettings.from_dict`.
        """
        values = {name: value for name, value in stored.items() if name not in ("kind", "stops")}
        source = TextInput(**values.pop("input"))
        return cls(source, RunSettings.from_dict({**values, "program": "diagnose"}, trust))

    def digest(self, texts: Sequence[GivenText], problem_set: ProblemSet) -> str:
        """Hash of the settings, the texts and the gold answers; the place of the file is not part of it."""
        problems = [(problem.problem_id, problem.answer) for problem in problem_set.problems]
        decisive = [self.run.to_dict(), self.input.end_token, [text.content for text in texts], problems]
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]
