"""What a row must say of its top set or its scores, where they tell less than they seem to."""

from __future__ import annotations

WITHIN = ("run", "sample")
"""Where top-p sets are taken: pooled over the tokens of a run, or in each sample by itself."""
_WIDE = 1.5


def top_note(n_top: int, n_tokens: int, p: float, name: str, within: str = "run") -> str | None:
    """What ties did to the top-p set by a score: None while it is little more than the share that was asked for.

    Within samples a set is larger without ties: each has at least one token.
    """
    if n_top >= n_tokens > 1:
        return f"ties: the top {p:.3g} by {name} is every token, nothing is told apart"
    if within == "run" and n_top > max(_WIDE * p * n_tokens, p * n_tokens + 1):
        return f"ties: the top {p:.3g} by {name} is {n_top / n_tokens:.3g} of the tokens"
    return None


def constant_note(what: str, *, is_constant: bool) -> str | None:
    """That a score is the same everywhere."""
    return f"{what} has one value everywhere, nothing is told apart" if is_constant else None


def joined(*notes: str | None) -> str | None:
    """Several notes as one; None where there is nothing to say."""
    return "; ".join(dict.fromkeys(note for note in notes if note)) or None
