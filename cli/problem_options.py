"""Options that say which problems are worked on, what the models are shown of them, and who grades."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from rrti_sgl.errors import UsageError

if TYPE_CHECKING:
    from rrti_sgl.prompts import PromptTemplate

_PROBLEMS, _PROMPTS = "Problems", "Prompts"
Problems = Annotated[
    str, typer.Option(help="Problem set by name, or a JSONL, Parquet or CSV file.", rich_help_panel=_PROBLEMS)
]
Split = Annotated[
    str, typer.Option(help="all, or one of two parts without overlap: calibration, evaluation.", rich_help_panel=_PROBLEMS)
]
SampleProblems = Annotated[int | None, typer.Option(help="Draw so many problems at random.", rich_help_panel=_PROBLEMS)]
ProblemSeed = Annotated[int, typer.Option(help="Of that draw.", rich_help_panel=_PROBLEMS)]
Limit = Annotated[int | None, typer.Option(help="Take the first so many problems.", rich_help_panel=_PROBLEMS)]
Samples = Annotated[int, typer.Option(help="Samples for each problem.", rich_help_panel=_PROBLEMS)]
QuestionField = Annotated[str, typer.Option(help="Field of the question, in a file.", rich_help_panel=_PROBLEMS)]
AnswerField = Annotated[str, typer.Option(help="Field of the answer, in a file.", rich_help_panel=_PROBLEMS)]
ChoicesField = Annotated[
    str | None, typer.Option(help="Field of the list of choices, in a multiple-choice file.", rich_help_panel=_PROBLEMS)
]
GraderOption = Annotated[
    str | None,
    typer.Option(
        "--grader",
        metavar="NAME",
        help="last-number, math-verify, choice, or PKG.MODULE:CLASS; the problem set's own by default.",
        rich_help_panel=_PROBLEMS,
    ),
]
BasePrompt = Annotated[str | None, typer.Option(help='Text with {question}, or "chat".', rich_help_panel=_PROMPTS)]
ReasoningPrompt = Annotated[str | None, typer.Option(help='Text with {question}, or "chat".', rich_help_panel=_PROMPTS)]
BaseTemplate = Annotated[
    str | None, typer.Option(metavar="NAME[@VERSION]", help="Shipped template, or a TOML file.", rich_help_panel=_PROMPTS)
]
ReasoningTemplate = Annotated[
    str | None, typer.Option(metavar="NAME[@VERSION]", help="Shipped template, or a TOML file.", rich_help_panel=_PROMPTS)
]
FewShot = Annotated[
    int | None, typer.Option(min=0, help="Worked examples in the base model's prompt.", rich_help_panel=_PROMPTS)
]
Thinking = Annotated[
    bool, typer.Option("--thinking/--no-thinking", help="Reasoning model's chat template.", rich_help_panel=_PROMPTS)
]
SpecialTokensOption = Annotated[
    str,
    typer.Option("--special-tokens", help="mapped: those of one meaning meet; or as-is.", rich_help_panel=_PROMPTS),
]


def prompt_template(side: str, text: str | None, name: str | None) -> PromptTemplate | None:
    """The template that was asked for as text or by name; None: neither.

    Args:
        side: "base" or "reasoning", for the error.
        text: of `--base-prompt` or `--reasoning-prompt`.
        name: of `--base-template` or `--reasoning-template`.

    Raises:
        UsageError: both were given, or the template is not there.
    """
    from rrti_sgl.prompts import PromptTemplate, load_template

    if text is not None and name is not None:
        raise UsageError(f"Both --{side}-prompt and --{side}-template were given.", "Leave one out.")
    if name is not None:
        return load_template(name)
    # Shells pass a typed \n on as two characters. A template that means them (LaTeX's \nu) is written as a file.
    return None if text is None else PromptTemplate(text.replace("\\n", "\n"))
