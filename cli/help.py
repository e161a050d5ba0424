"""What `--help` says of a command, the same for each: no type where nothing is typed, a sentence as its summary."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


class _Help:
    """The parts of a command that its help is made of."""

    help: str | None

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options; a switch shows no type."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params

    def get_short_help_str(self, limit: int = 0) -> str:
        """Its first sentence, whole."""
        return " ".join((self.help or "").partition("\n\n")[0].split()).partition(". ")[0].rstrip(".")


class Command(_Help, TyperCommand):
    """A command whose help is written so."""


class Group(_Help, TyperGroup):
    """A group of commands whose help is written so."""
