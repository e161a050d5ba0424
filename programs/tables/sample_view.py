"""Draws one sample, for a terminal or a page: tokens shaded by disagreement, takeovers with what they replaced."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.panel import Panel
from rich.style import Style
from rich.text import Text

from rrti_sgl.db.tables import SCORES
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.tables.numbers import COUNT, NUMBER, WHOLE_SHARE
from rrti_sgl.programs.tables.safe_text import one_line, visible
from rrti_sgl.records import FloatArray, ProblemRecord, RunRecord, SampleTrace
from rrti_sgl.science.metrics import unit_of

# From low to high, one hue of growing strength: readable without colour vision, on light and dark terminals.
_SHADES = ("", "black on #fdebd0", "black on #f9c784", "black on #f39c34", "black on #e06c1a")
_TAKEOVER = Style(bold=True, underline=True)
_VERDICTS = {True: Text("right", "bold green"), False: Text("wrong", "bold red"), None: Text("not graded")}
WIDTH = 100
_ELEMENT = '<pre style="font-family: monospace; line-height: 1.4; white-space: pre-wrap">{code}</pre>'


@dataclass(frozen=True, eq=False, repr=False)
class SampleView:
    """A sample for rich to print: its header, its shaded text and a legend; without colours, takeovers stand in brackets.

    Args:
        run, problem, trace: the sample and what it belongs to.
        metric: what the shades show; None takes the cross-entropy, or where one model was asked throughout, its entropy.
        title: of the header; "" names the sample.

    Raises:
        UsageError: the metric is unknown.
    """

    run: RunRecord
    problem: ProblemRecord
    trace: SampleTrace
    metric: str | None = None
    title: str = ""

    def __post_init__(self) -> None:
        if self.metric is not None and self.metric not in SCORES:
            raise UsageError(f"Metric {self.metric!r} is unknown.", f"Use one of {', '.join(SCORES)}.")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich prints."""
        sample, plain = self.trace.sample, console.color_system is None or console.no_color
        metric = self.metric or _telling_metric(self.trace)
        values: FloatArray = getattr(self.trace.tokens, metric)
        verdict = _VERDICTS[sample.correct]
        yield Panel(
            Text(visible(self.problem.question)),
            title=Text(one_line(self.title or f"sample {sample.sample_id}, {self.run.program}")),
            subtitle=Text(one_line(f"gold answer {self.problem.answer or 'unknown'}")),
            title_align="left",
            subtitle_align="right",
        )
        bounds = shade_bounds(values)
        yield solution_text(self.trace, values, bounds, plain=plain)
        counts = [COUNT.text(count) for count in (sample.n_tokens, sample.n_takeovers, sample.n_changed)]
        share = WHOLE_SHARE.text(sample.n_takeovers / sample.n_tokens if sample.n_tokens else None)
        yield Text.assemble(
            f"answer {one_line(sample.answer or 'none')}, ",
            verdict,
            f"; {counts[0]} token{'s' * (sample.n_tokens != 1)}, "
            f"{counts[1]} takeover{'s' * (sample.n_takeovers != 1)} ({share}), {counts[2]} changed the token",
        )
        legend = (_bracket_legend if plain else _legend)(metric, bounds, _marks(self.trace))
        if legend:
            yield legend

    def __repr__(self) -> str:
        """The sample without styles, 100 characters wide."""
        console = Console(file=io.StringIO(), width=WIDTH, force_terminal=False, force_jupyter=False, color_system=None)
        with console.capture() as captured:
            console.print(self)
        return captured.get().rstrip()

    def _repr_html_(self) -> str:
        """The sample as it stands in a coloured terminal, as one element of a page."""
        console = Console(
            file=io.StringIO(),
            width=WIDTH,
            record=True,
            force_terminal=True,
            force_jupyter=False,
            color_system="truecolor",
            no_color=False,
        )
        console.print(self)
        return console.export_html(inline_styles=True, code_format=_ELEMENT)


def _telling_metric(trace: SampleTrace) -> str:
    """The cross-entropy, or where only one model was asked throughout, its entropy."""
    candidates = ("ce", "entropy_base", "entropy_reasoning")
    return max(candidates, key=lambda name: int(np.isfinite(getattr(trace.tokens, name)).sum()))


def solution_text(trace: SampleTrace, values: FloatArray, bounds: Sequence[float] | None, *, plain: bool = False) -> Text:
    """The solution as styled text; a takeover that changed the token shows base's choice struck out before it.

    `plain` writes takeovers in brackets instead, for output without styles.
    """
    tokens = trace.tokens
    text = Text()
    for t, piece in enumerate(map(visible, tokens.token_text)):
        shade = _SHADES[_level(values[t], bounds)]
        word = piece.strip() or piece
        start = piece.find(word)
        lead, trail = piece[:start], piece[start + len(word) :]
        text.append(lead)
        if tokens.source[t] != "reasoning" or tokens.base_token_id[t] < 0:
            text.append(word, shade)
            text.append(trail)
            continue
        changed = tokens.base_token_id[t] != tokens.token_id[t]
        wanted = _as_word(visible(tokens.base_token_text[t] or f"<{tokens.base_token_id[t]}>"))
        if plain:
            text.append(f"[{wanted} -> {_as_word(word)}]" if changed else f"[{_as_word(word)}]")
        else:
            if changed:
                text.append(wanted, Style(strike=True, dim=True))
                text.append(" ")
            text.append(_as_word(word), Style.parse(shade) + _TAKEOVER if shade else _TAKEOVER)
        text.append(trail if word.strip() else word)
    return text


def _as_word(text: str) -> str:
    """A token's text where it stands for itself: of spaces, and of a part of a character, there is something to see, too."""
    return text.strip() or text.replace("\n", "\\n").replace("\t", "\\t").strip() or "·"


def shade_bounds(values: FloatArray) -> list[float] | None:
    """Four bounds between five shades, spread over the range of the values; None where nothing was computed."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    top = float(finite.max())
    return [top * share for share in (0.1, 0.25, 0.5, 0.75)]


def _level(value: float, bounds: Sequence[float] | None) -> int:
    if bounds is None or math.isnan(value):
        return 0
    return sum(value > bound for bound in bounds)


def _marks(trace: SampleTrace) -> dict[str, bool]:
    """Whether takeovers are marked that changed the token, and that did not."""
    tokens = trace.tokens
    asked = (np.asarray(tokens.source) == "reasoning") & (tokens.base_token_id >= 0)
    changed = tokens.base_token_id != tokens.token_id
    return {"changed": bool((asked & changed).any()), "agreed": bool((asked & ~changed).any())}


def _bracket_legend(metric: str, bounds: Sequence[float] | None, marks: Mapping[str, bool]) -> Text:
    said = {"changed": "[drawn by base -> takeover]", "agreed": "[takeover that agrees with base]"}
    return Text(", ".join(said[mark] for mark, there in marks.items() if there), style="dim")


def _legend(metric: str, bounds: Sequence[float] | None, marks: Mapping[str, bool]) -> Text:
    text = Text()
    if bounds is not None:
        text.append(f"{metric}: ", "dim")
        for shade, bound in zip(_SHADES[1:], bounds, strict=True):
            text.append(f" > {NUMBER.text(bound)} ", shade)
            text.append(" ")
        text.append(f"{unit_of(metric)}   ", "dim")
    if any(marks.values()):
        text.append("takeover", _TAKEOVER)
    if marks["changed"]:
        text.append(" (", "dim")
        text.append("what base drew", Style(strike=True, dim=True))
        text.append(")", "dim")
    return text


def rows(trace: SampleTrace) -> list[dict[str, Any]]:
    """The tokens as rows for tables and JSON: the columns one reads, without the top-k lists."""
    tokens = trace.tokens
    names = ("token_id", "base_token_id", "score", "local_mean", "ce", "reverse_kl", "entropy_base", "planted")
    return [
        {
            "position": t,
            "token_text": tokens.token_text[t],
            "source": tokens.source[t],
            "fired": bool(tokens.fired[t]),
            "planning_tag": tokens.planning_tag[t],
            **{name: _plain(getattr(tokens, name)[t]) for name in names},
        }
        for t in range(len(tokens.token_id))
    ]


def _plain(value: Any) -> int | float | None:
    number = value.item()
    return None if isinstance(number, float) and math.isnan(number) else number
