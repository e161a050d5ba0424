"""Tables as Markdown (GitHub's dialect)."""

from __future__ import annotations

import re

from tabulate import tabulate

from rrti_sgl.programs.reporting.table import Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell as well."""
    return _SPECIAL.sub(r"\\\1", text)


def table_body(table: Table) -> str:
    """The rows under their headings, without title and notes."""
    cells = [[escape(cell) for cell in row] for row in table.cells]
    alignment = ["right" if number else "left" for number in table.is_numeric]
    body: str = tabulate(
        cells, headers=[escape(h) for h in table.headings], tablefmt="pipe", colalign=alignment, disable_numparse=True
    )
    return body


def table_block(table: Table) -> str:
    """The rows with title and notes."""
    notes = "\n\n".join(escape(note) for note in table.all_notes)
    return f"**{escape(table.title)}**\n\n{table_body(table)}\n\n{notes}"


def prose(text: str) -> str:
    """A sentence that may hold `code`; all else is shown as it is."""
    pieces = text.split("`")
    return "".join(f"`{piece}`" if i % 2 else escape(piece) for i, piece in enumerate(pieces))
