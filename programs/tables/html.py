"""Tables as HTML."""

from __future__ import annotations

from rrti_sgl.programs.tables.safe_text import html as escape
from rrti_sgl.programs.tables.table import INTERVAL, Table


def table_block(table: Table) -> str:
    """A table with its title as caption and its notes under it."""
    classes = [' class="number"' if number else "" for number in table.is_numeric]
    headings = [escape(heading).replace(INTERVAL, INTERVAL.replace(" %", "&nbsp;%")) for heading in table.headings]
    head = "".join(f"<th{c}>{h}</th>" for c, h in zip(classes, headings, strict=True))
    lines = []
    for index, row in enumerate(table.cells):
        cells = "".join(f"<td{c}>{escape(cell)}</td>" for c, cell in zip(classes, row, strict=True))
        lines.append(f'<tr class="rule">{cells}</tr>' if index in table.rules else f"<tr>{cells}</tr>")
    body = "\n".join(lines)
    notes = f'<p class="notes">{escape(" ".join(table.all_notes))}</p>' if table.all_notes else ""
    return (
        f'<div class="table"><table id="table-{escape(table.name)}"><caption>{escape(table.title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n{notes}"
    )
