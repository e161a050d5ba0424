"""What `--help` shows at 80 columns: every option whole, types only where something is typed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from rrti_sgl.cli.main import COMMANDS, app


def every_command() -> dict[str, Any]:
    group: Any = typer.main.get_command(app)
    found = {name: group.get_command(None, name) for name in COMMANDS}
    of_db = found.pop("db").commands
    return found | {f"db {name}": command for name, command in of_db.items()}


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    return every_command()


@pytest.mark.parametrize("name", [*(name for name in COMMANDS if name != "db"), "db info", "db delete", "db schema"])
def test_help_fits_80_columns_and_cuts_nothing(name: str, commands: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = CliRunner().invoke(app, [*name.split(), "--help"]).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "<bool>" not in text
    assert "…" not in text
    options = {option for param in commands[name].params for option in (*param.opts, *param.secondary_opts)}
    said = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))
    assert {option for option in options if option.startswith("--")} <= said


def test_a_summary_is_a_whole_sentence(commands: dict[str, Any]) -> None:
    for name, command in commands.items():
        summary = command.get_short_help_str()
        assert summary, name
        assert not summary.endswith(("...", ",", "the", ".")), name
        assert len(summary) < 160, name


def test_marks_of_a_log_are_not_taken_for_markup() -> None:
    assert "<think>" in CliRunner().invoke(app, ["score", "--help"]).stdout
