"""A report as pages: Markdown, HTML and LaTeX. What holds of every table is said at their head, and once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from urllib.parse import quote

from rrti_sgl.programs.reporting import html
from rrti_sgl.programs.reporting.context import Report
from rrti_sgl.programs.reporting.figures.style import FORMATS, Drawing
from rrti_sgl.programs.tables import latex, markdown
from rrti_sgl.programs.tables.html import table_block
from rrti_sgl.programs.tables.safe_text import html as escape
from rrti_sgl.programs.tables.safe_text import markdown as escape_markdown
from rrti_sgl.programs.tables.safe_text import markdown_prose
from rrti_sgl.programs.tables.table import Table

_TABLE_FILES = {"CSV": "csv", "Parquet": "parquet", "LaTeX": "tex"}


def table_files(table: Table) -> dict[str, str]:
    """Where a table's rows lie in the folder of the report, by the name of the format."""
    return {name: f"tables/{table.name}.{ending}" for name, ending in _TABLE_FILES.items()}


def figure_files(drawing: Drawing, report: Report) -> dict[str, str]:
    """Where a figure lies in the folder of the report, by the name of the format; that of a sample also as its page."""
    found = {kind.upper(): f"figures/{drawing.name}.{kind}" for kind in FORMATS}
    if report.explored and drawing.sample is not None:
        found["page"] = "explorer/index.html#/sample/" + "/".join(quote(part, safe="") for part in drawing.sample)
    return found


def notes_under(report: Report) -> dict[str, list[str]]:
    """What stands under each table, by its name: what neither the head nor a table before it in its section has said."""
    found: dict[str, list[str]] = {}
    for tables in ([report.runs], *(finished.content.tables for finished in report.sections)):
        said = set(report.legend)
        for table in tables:
            found[table.name] = [note for note in table.all_notes if note not in said]
            said |= set(table.all_notes)
    return found


def markdown_page(report: Report) -> str:
    """The report as Markdown; figures and the rows of tables are linked."""
    notes = notes_under(report)

    def shown(table: Table) -> str:
        return f"{markdown.table_block(table, notes=notes[table.name])}\n\n{_linked('This table', table_files(table))}"

    head = [*report.findings, report.conditions, *report.caution]
    parts = [f"# {escape_markdown(report.title)}", *map(markdown_prose, head)]
    parts += ["\n".join(f"- {markdown_prose(text)}" for text in report.legend.values()), shown(report.runs)]
    for finished in report.sections:
        parts += [f"## {finished.section.title}", f"*{markdown_prose(finished.question)}* (`{finished.section.name}`)"]
        parts += [f"> **Not shown:** {markdown_prose(reason)}" for reason in finished.content.missing]
        for drawing in finished.content.drawings:
            files = figure_files(drawing, report)
            image = f"![Figure: {escape_markdown(finished.section.title)}]({files['SVG']})"
            parts += [image, markdown_prose(drawing.caption), _linked("This figure", files)]
        parts += map(shown, finished.content.tables)
    return "\n\n".join(part.strip() for part in parts) + "\n"


def html_page(report: Report) -> str:
    """The report as one page that needs nothing else; its links lead to the other files of its folder."""
    notes = notes_under(report)

    def shown(tables: Iterable[Table]) -> list[str]:
        return [f"{table_block(table, notes[table.name])}\n{html.file_line(table_files(table))}" for table in tables]

    parts = [f"<h1>{escape(report.title)}</h1>", *(html.paragraph(text, "found") for text in report.findings)]
    parts += [html.paragraph(report.conditions, "made"), *map(html.paragraph, report.caution)]
    parts.append(html.listed([*report.legend.values()], "legend"))
    parts += [html.navigation([(f.section.name, f.section.title) for f in report.sections]), *shown([report.runs])]
    for finished in report.sections:
        parts.append(html.heading(finished.section.name, finished.section.title, finished.question))
        parts += [html.paragraph(f"Not shown: {reason}", "missing") for reason in finished.content.missing]
        if finished.content.drawings:
            figures = [
                html.figure_block(d.name, d.files["svg"].decode(), d.caption, wide=d.wide, files=figure_files(d, report))
                for d in finished.content.drawings
            ]
            parts.append(f'<div class="figures">{"".join(figures)}</div>')
        parts += shown(finished.content.tables)
    return html.page(report.title, "\n".join(parts))


def latex_page(report: Report) -> str:
    """All tables of the report as one LaTeX document."""
    head = [*report.findings, report.conditions, *report.caution, *report.legend.values()]
    return latex.document(report.tables, report.title, head, notes_under(report))


def _linked(what: str, files: Mapping[str, str]) -> str:
    return f"{what} as {', '.join(f'[{name}]({PurePosixPath(path)})' for name, path in files.items())}"
