"""What a program asks for at one `gen`: read from SGLang's sampling parameters, refused by name where it cannot be had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from sglang.lang.ir import SglSamplingParams

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.running.settings import RunSettings

_NO_GRAMMAR = "A takeover would break the grammar between two drafts. Use `select`, or check the text in the program."
_NO_FILTER = "The two models must draw from their own distributions. Use temperature and top_p."
_IN_STORE = "Every token's log-probabilities are in the store, of both models."

# Sampling parameter -> what to do instead.
_REFUSED: Final = {
    "n": "Use `fork` to draw several.",
    "min_new_tokens": "Leave it out; a program can generate again.",
    "stop_regex": "Use `stop` or `stop_token_ids`.",
    **dict.fromkeys(("top_k", "min_p", "frequency_penalty", "presence_penalty"), _NO_FILTER),
    **dict.fromkeys(("return_logprob", "logprob_start_len", "top_logprobs_num", "return_text_in_logprobs"), _IN_STORE),
    **dict.fromkeys(("dtype", "regex", "json_schema"), _NO_GRAMMAR),
}
_UNASKED = SglSamplingParams()
_NOUGHT_ASKS = ("n", "top_k", "logprob_start_len")


@dataclass(frozen=True, slots=True)
class GenOptions:
    """How to generate.

    Args:
        settings: the backend's, with the length limit, the temperature and top-p of this `gen`.
        stop_strings: the text ends before the first of them.
        stop_token_ids: end tokens beside the models' own.
        ignore_eos: go on after the models' own end tokens.
        skip_special: leave special tokens out of the text.
    """

    settings: RunSettings
    stop_strings: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    ignore_eos: bool = False
    skip_special: bool = True


def read_options(params: Any, settings: RunSettings, *, skip_special: bool) -> GenOptions:
    """The options in SGLang's `SglSamplingParams`, with a backend's settings for what they do not say.

    Raises:
        UsageError: an option that does not go with intervention, or a value out of range; names it.
    """
    for name, remedy in _REFUSED.items():
        value = getattr(params, name)
        nothing = value is None or value == getattr(_UNASKED, name) or (not value and name not in _NOUGHT_ASKS)
        if not nothing:
            raise UsageError(f"gen({name}={value!r}) is not supported under intervention.", remedy)
    stops = (params.stop,) if isinstance(params.stop, str) else tuple(params.stop or ())
    return GenOptions(
        replace(
            settings,
            max_new_tokens=int(params.max_new_tokens),
            temperature=float(params.temperature),
            top_p=float(params.top_p),
        ),
        stop_strings=tuple(stop for stop in stops if stop),
        stop_token_ids=frozenset(int(i) for i in params.stop_token_ids or ()),
        ignore_eos=bool(params.ignore_eos),
        skip_special=skip_special,
    )
