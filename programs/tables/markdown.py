"""Tables as Markdown (GitHub's dialect)."""

from __future__ import annotations

import re

from rrti_sgl.programs.tables.table import Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell as well."""
    return _SPECIAL.sub(r"\\\1", text)


def table_body(table: Table) -> str:
    """The rows under their headings, without title and notes."""
    from tabulate import tabulate

    cells = [[_cell(cell) for cell in row] for row in table.cells]
    alignment = ["right" if number else "left" for number in table.is_numeric]
    body: str = tabulate(
        cells, headers=[escape(h) for h in table.headings], tablefmt="pipe", colalign=alignment, disable_numparse=True
    )
    return body


def _cell(text: str) -> str:
    """A cell's text; blanks that it begins with are kept."""
    indent = len(text) - len(text.lstrip(" "))
    return "&nbsp;" * indent + escape(text[indent:])


def table_block(table: Table, heading: str = "") -> str:
    """The rows with title and notes; `heading`, such as `##`, makes the title one."""
    title = f"{heading} {escape(table.title)}" if heading else f"**{escape(table.title)}**"
    notes = "\n\n".join(escape(note) for note in table.all_notes)
    return f"{title}\n\n{table_body(table)}\n\n{notes}".rstrip()


def prose(text: str) -> str:
    """A sentence that may hold `code`; all else is shown as it is."""
    pieces = text.split("`")
    return "".join(f"`{piece}`" if i % 2 else escape(piece) for i, piece in enumerate(pieces))
