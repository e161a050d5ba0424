"""All programs by name."""

from __future__ import annotations

from rrti_sgl.errors import UsageError
from rrti_sgl.programs import base, deferral, diagnose, early, entropy, guided, matched, oracle, random, reasoning, relay
from rrti_sgl.programs.program import Program

PROGRAMS: dict[str, Program] = {
    module.PROGRAM.name: module.PROGRAM
    for module in (base, reasoning, diagnose, guided, entropy, deferral, random, early, matched, oracle, relay)
}


def find_program(name: str) -> Program:
    """Look a program up.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PROGRAMS:
        raise UsageError(f"Program {name!r} is unknown.", f"Use one of {', '.join(PROGRAMS)}.")
    return PROGRAMS[name]
