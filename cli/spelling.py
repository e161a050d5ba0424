"""Arguments and calls that messages name, as options and commands."""

from __future__ import annotations

from typing import Any

from rrti_sgl.errors import Spelling

# Arguments whose options are called otherwise, in every command that has them.
_FLAGS = {
    "spike_ratios": "--spike-ratio",
    "budgets": "--budget",
    "runs": "--run",
    "positions": "--position",
    "fields": "--field",
} | {
    **{"base_gpus": "--base-gpu", "reasoning_gpus": "--reasoning-gpu", "flags": "--server-flags"},
    **{"timeout_s": "--timeout", "memory_limit": "--memory", "patience_s": "--patience"},
    "endpoint_key": "--endpoint-key-file",
}


class Options(Spelling):
    """What messages name as it is typed, by the declarations of options."""

    def argument(self, name: str, value: Any, text: str) -> str:
        """An option, with its value; a switch alone, a list repeated."""
        yes, no = _flags(name)
        match value:
            case bool():
                return yes if value else no
            case list() | tuple():
                return " ".join(f"{yes} {one}" for one in value)
        return f"{yes} {text if value is ... else value}".rstrip()

    def command(self, name: str, options: dict[str, Any]) -> str:
        """A command as it is typed."""
        given = [self.argument(option, value, "") for option, value in options.items()]
        return " ".join(["rrti", name, *given])


def _flags(name: str) -> tuple[str, str]:
    """The option of an argument, and what switches it off."""
    if name in _FLAGS:
        return _FLAGS[name], _FLAGS[name]
    from rrti_sgl.cli.options import RUN_OPTIONS

    declared = [entry.flag for entry in RUN_OPTIONS.values() if entry.field == name]
    yes, _, no = (declared[0] if declared else f"--{name.replace('_', '-')}").partition("/")
    return yes, no or yes
