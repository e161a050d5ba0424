"""Tables as HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rrti_sgl.programs.tables.safe_text import html as escape
from rrti_sgl.programs.tables.table import INTERVAL, Table

# The ends of an interval, behind their number.
_ENDS = re.compile(r" (\[[^\[\]]*\])$")
# Characters of a row beside which a page has no room; intervals then stand under their numbers.
_WIDEST, _LONGEST_TEXT, _GAP = 165, 20, 2


def table_block(table: Table, notes: Sequence[str] | None = None) -> str:
    """A table with its title as caption and its notes under it.

    Cells of numbers carry them as `data-sort`, with six digits: what a page sorts by.

    Args:
        table: what is shown.
        notes: in place of all that it has.
    """
    said = table.all_notes if notes is None else notes
    classes = [' class="number"' if number else "" for number in table.is_numeric]
    headings = [escape(heading).replace(INTERVAL, INTERVAL.replace(" %", "&nbsp;%")) for heading in table.headings]
    head = "".join(f'<th scope="col"{c}>{h}</th>' for c, h in zip(classes, headings, strict=True))
    lines = []
    for index, row in enumerate(table.cells):
        numbers = table.numbers[index]
        cells = "".join(_cell(*cell) for cell in zip(row, table.is_numeric, numbers, strict=True))
        lines.append(f'<tr class="rule">{cells}</tr>' if index in table.rules else f"<tr>{cells}</tr>")
    body = "\n".join(lines)
    below = f'\n<p class="notes">{escape(" ".join(said))}</p>' if said else ""
    stacked = ' class="stacked"' if _width(table) > _WIDEST else ""
    return (
        f'<div class="table"><table id="table-{escape(table.name)}"{stacked}>'
        f"<caption><span>{escape(table.title)}</span></caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>{below}"
    )


def _width(table: Table) -> int:
    """Of the rows, in characters; headings and long texts are broken over lines."""
    words = [max(map(len, heading.split()), default=0) for heading in table.headings]
    longest = [max(map(len, texts), default=0) for texts in table.texts]
    most = [size if number else min(size, _LONGEST_TEXT) for size, number in zip(longest, table.is_numeric, strict=True)]
    return sum(max(pair) + _GAP for pair in zip(words, most, strict=True))


def _cell(text: str, is_numeric: bool, number: float | None) -> str:
    if not is_numeric:
        return f"<td>{escape(text)}</td>"
    by = "" if number is None else f' data-sort="{number:.6g}"'
    shown = _ENDS.sub(r" <span>\1</span>", escape(text))
    return f'<td class="number"{by}>{shown}</td>'
