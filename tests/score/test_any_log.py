"""Logs of other tools with anything in place of anything: texts, or one refusal, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rrti_sgl.errors import UsageError
from rrti_sgl.given_texts.reading import read_texts
from tests.cli.fuzz.damaged import LOGS, ROWS, _members, mutated


def _lines(name: str) -> list[Any]:
    return [json.loads(line) for line in (LOGS / name).read_text().splitlines()]


def _sound() -> dict[str, list[Any]]:
    samples = [json.loads(content) for name, content in _members().items() if name.startswith("samples/")]
    return {
        "lm_eval.jsonl": _lines("samples_text.jsonl"),
        "chat.jsonl": _lines("samples_chat.jsonl"),
        "rows.jsonl": ROWS,
        "inspect.json": samples,
    }


@pytest.mark.parametrize("name", ["lm_eval.jsonl", "chat.jsonl", "rows.jsonl", "inspect.json"])
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_a_log_holds_may_be_anything(tmp_path: Path, name: str, data: st.DataObject) -> None:
    entries = _sound()[name]
    place = data.draw(st.integers(0, len(entries) - 1))
    entries = [*entries[:place], mutated(data.draw, entries[place]), *entries[place + 1 :]]
    path = tmp_path / name
    text = json.dumps({"samples": entries}) if name.endswith(".json") else "\n".join(map(json.dumps, entries))
    path.write_text(text, encoding="utf-8")
    thoughts, formats = data.draw(st.booleans()), {"lm_eval.jsonl": "lm-eval", "chat.jsonl": "lm-eval"}
    try:
        found = read_texts(path, formats.get(name, "auto"), thoughts=thoughts)
    except UsageError:
        return
    assert all(isinstance(text.continuation, str | tuple) for text in found)
