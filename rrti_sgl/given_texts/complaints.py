"""Everything that is wrong with an input, collected and reported at once."""

from __future__ import annotations

from rrti_sgl.errors import UsageError

SHOWN = 20


class Complaints:
    """A list of places and what is wrong there."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: str, problem: str) -> None:
        """Note a problem.

        Args:
            place: file and line.
            problem: what is wrong: field and value.
        """
        self._found.append(f"{place}: {problem}")

    def raise_any(self, remedy: str) -> None:
        """Report what was noted; returns where that is nothing.

        Raises:
            UsageError: lists the first 20 problems and counts the rest.
        """
        if not self._found:
            return
        n = len(self._found)
        shown = "".join(f"\n  {line}" for line in self._found[:SHOWN])
        more = f"\n  and {n - SHOWN} more" if n > SHOWN else ""
        raise UsageError(
            f"The input has {n} {'problem' if n == 1 else 'problems'}; nothing was scored.{shown}{more}", remedy
        )
