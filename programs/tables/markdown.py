"""Tables as Markdown (GitHub's dialect)."""

from __future__ import annotations

from collections.abc import Sequence

from rrti_sgl.programs.tables import safe_text
from rrti_sgl.programs.tables.table import Table


def table_body(table: Table) -> str:
    """The rows under their headings, without title and notes."""
    from tabulate import tabulate

    cells = [[_cell(cell) for cell in row] for row in table.cells]
    alignment = ["right" if number else "left" for number in table.is_numeric]
    body: str = tabulate(
        cells,
        headers=[safe_text.markdown(h) for h in table.headings],
        tablefmt="pipe",
        colalign=alignment,
        disable_numparse=True,
    )
    return body


def _cell(text: str) -> str:
    """A cell's text; blanks that it begins with are kept."""
    indent = len(text) - len(text.lstrip(" "))
    return "&nbsp;" * indent + safe_text.markdown(text[indent:])


def table_block(table: Table, heading: str = "", notes: Sequence[str] | None = None) -> str:
    """The rows with title and notes; `heading`, such as `##`, makes the title one. `notes`: in place of all it has."""
    title = f"{heading} {safe_text.markdown(table.title)}" if heading else f"**{safe_text.markdown(table.title)}**"
    said = "\n\n".join(safe_text.markdown(note) for note in (table.all_notes if notes is None else notes))
    return f"{title}\n\n{table_body(table)}\n\n{said}".rstrip()
