"""Everything that is wrong with an input, collected and reported at once."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from rrti_sgl.errors import UsageError

logger = logging.getLogger(__name__)

SHOWN = 20


class Complaints:
    """A list of places and what is wrong there: `found`, in the order in which it was noted."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self._remedies: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self.found)

    @property
    def places(self) -> Mapping[str, str]:
        """What was noted first of each place."""
        first: dict[str, str] = {}
        for place, problem in self.found:
            first.setdefault(place, problem)
        return first

    def add(self, place: str, problem: str, remedy: str = "") -> None:
        """Note a problem.

        Args:
            place: file and line.
            problem: what is wrong: field and value.
            remedy: what to do about it; said once for all problems that have the same.
        """
        self.found.append((place, problem))
        if remedy:
            self._remedies[remedy] = None

    def raise_any(self, remedy: str, outcome: str = "", error: type[UsageError] = UsageError) -> None:
        """Report what was noted; returns where that is nothing.

        Args:
            remedy: what to do about all of it.
            outcome: what did not happen because of that.
            error: its class.

        Raises:
            UsageError: lists the first 20 problems and counts the rest.
        """
        if not self.found:
            return
        n = len(self.found)
        lines = [f"{place}: {problem}" for place, problem in self.found[:SHOWN]]
        shown = "".join(f"\n  {line}" for line in lines)
        more = f"\n  and {n - SHOWN} more" if n > SHOWN else ""
        message = f"The input has {n} {'problem' if n == 1 else 'problems'}{outcome and f'; {outcome}'}.{shown}{more}"
        raise error(message if outcome or n > 1 else f"{lines[0]}.", " ".join((*self._remedies, remedy)).strip())

    def warn(self, unit: str) -> None:
        """Log how many places were left out for what was noted, and the first 20 of them.

        Args:
            unit: what is at a place: "row", "text".
        """
        found = self.places
        named = "".join(f"\n  {place}: {problem}" for place, problem in list(found.items())[:SHOWN])
        more = f"\n  and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        logger.warning("%d %s%s left out:%s%s", len(found), unit, "" if len(found) == 1 else "s", named, more)
