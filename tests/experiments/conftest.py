"""The same few tokenizers are loaded once, not once for every faulty file."""

from __future__ import annotations

from functools import cache

import pytest

from rrti_sgl.programs.experiments import preflight
from rrti_sgl.tokens.vocabulary import load_vocabulary

_once = cache(load_vocabulary)


@pytest.fixture(autouse=True)
def tokenizers_are_loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "load_vocabulary", _once)
