"""Draws one sample for the terminal: every token shaded by its disagreement, takeovers marked with what they replaced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.panel import Panel
from rich.style import Style
from rich.text import Text

from rrti_sgl.db.record_rows import METRICS
from rrti_sgl.errors import UsageError
from rrti_sgl.programs.tables.numbers import COUNT, NUMBER, WHOLE_SHARE
from rrti_sgl.records import FloatArray, ProblemRecord, RunRecord, SampleTrace

# From low to high, one hue of growing strength: readable without colour vision, on light and dark terminals.
_SHADES = ("", "black on #fdebd0", "black on #f9c784", "black on #f39c34", "black on #e06c1a")
_TAKEOVER = Style(bold=True, underline=True)


def print_sample(
    console: Console,
    run: RunRecord,
    problem: ProblemRecord,
    trace: SampleTrace,
    metric: str | None = None,
    *,
    title: str = "",
) -> None:
    """Print a sample with its header, its shaded text and a legend.

    Raises:
        UsageError: the metric is unknown, or was not computed for this sample.
    """
    metric = metric or _telling_metric(trace)
    if metric not in METRICS:
        raise UsageError(f"Metric {metric!r} is unknown.", f"Use one of {', '.join(METRICS)}.")
    values: FloatArray = getattr(trace.tokens, metric)
    sample = trace.sample
    verdict = {True: "[bold green]right[/]", False: "[bold red]wrong[/]", None: "not graded"}[sample.correct]
    console.print(
        Panel(
            Text(problem.question),
            title=title or f"sample {sample.sample_id}, {run.program}",
            subtitle=f"gold answer {problem.answer or 'unknown'}",
            title_align="left",
            subtitle_align="right",
        )
    )
    bounds = shade_bounds(values)
    plain = not console.is_terminal
    counts = [COUNT.text(count) for count in (sample.n_tokens, sample.n_takeovers, sample.n_changed)]
    console.print(solution_text(trace, values, bounds, plain=plain))
    console.print(
        f"answer {sample.answer or 'none'}, {verdict}; {counts[0]} tokens, {counts[1]} takeovers "
        f"({WHOLE_SHARE.text(sample.n_takeovers / sample.n_tokens)}), {counts[2]} changed the token",
        highlight=False,
    )
    if plain:
        console.print(Text("[drawn by base -> takeover], [takeover that agrees with base]", style="dim"))
    elif bounds is not None:
        console.print(_legend(metric, bounds))


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
    for t, piece in enumerate(tokens.token_text):
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
        wanted = _as_word(tokens.base_token_text[t] or f"<{tokens.base_token_id[t]}>")
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


def _legend(metric: str, bounds: Sequence[float]) -> Text:
    unit = "" if metric == "tv" else " nats"
    text = Text(f"{metric}: ", style="dim")
    for shade, bound in zip(_SHADES[1:], bounds, strict=True):
        text.append(f" > {NUMBER.text(bound)} ", shade)
        text.append(" ")
    text.append(unit.strip() + "   ", style="dim")
    text.append("takeover", _TAKEOVER)
    text.append(" (", style="dim")
    text.append("what base drew", Style(strike=True, dim=True))
    text.append(")", style="dim")
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
