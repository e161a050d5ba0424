"""What a `gen` may ask for, and what is refused by name; without servers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sglang.lang.ir import SglSamplingParams

from rrti_sgl.errors import UsageError
from rrti_sgl.programs.frontend.options import GenOptions, read_options
from rrti_sgl.programs.running.settings import RunSettings

SETTINGS = RunSettings("guided", k=5)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("n", 2),
        ("min_new_tokens", 3),
        ("stop_regex", "a+"),
        ("top_k", 5),
        ("min_p", 0.1),
        ("frequency_penalty", 0.5),
        ("presence_penalty", 0.5),
        ("return_logprob", True),
        ("logprob_start_len", 0),
        ("top_logprobs_num", 2),
        ("return_text_in_logprobs", True),
        ("dtype", int),
        ("regex", "[0-9]+"),
        ("json_schema", "{}"),
        ("temperature", -1.0),
        ("top_p", 0.0),
    ],
)
def test_refused_by_name(option: str, value: Any) -> None:
    with pytest.raises(UsageError, match=option) as raised:
        read_options(SglSamplingParams(**{option: value}), SETTINGS, skip_special=True)
    assert raised.value.remedy


def test_every_option_of_sglang_is_read_or_refused() -> None:
    """A new one must not be ignored in silence."""
    from rrti_sgl.programs.frontend.options import _REFUSED

    read = {"max_new_tokens", "temperature", "top_p", "stop", "stop_token_ids", "ignore_eos"}
    assert read | set(_REFUSED) == set(SglSamplingParams.__dataclass_fields__)


@pytest.mark.parametrize(("stop", "expected"), [((), ()), ("x", ("x",)), (["x", "y", ""], ("x", "y")), (None, ())])
def test_defaults_and_stop_strings(stop: Any, expected: tuple[str, ...]) -> None:
    params = SglSamplingParams(stop=stop, stop_token_ids=[7], temperature=0.5, top_p=0.9, max_new_tokens=9)
    settings = replace(SETTINGS, max_new_tokens=9, temperature=0.5, top_p=0.9)
    assert read_options(params, SETTINGS, skip_special=False) == GenOptions(
        settings, expected, frozenset({7}), ignore_eos=False, skip_special=False
    )


def test_no_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="max_new_tokens=0"):
        read_options(SglSamplingParams(max_new_tokens=0), SETTINGS, skip_special=True)


def test_what_asks_for_nothing_is_taken() -> None:
    params = SglSamplingParams(n=None, top_logprobs_num=0, return_logprob=False, stop_regex=[])
    assert read_options(params, SETTINGS, skip_special=True).settings.max_new_tokens == params.max_new_tokens
