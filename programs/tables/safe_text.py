r"""Text of stores, files and command lines made safe to show: on a terminal, and inside Markdown, HTML and LaTeX.

A question, a token or an id may hold anything. Codes that move a terminal's cursor, change its title or turn the reading
direction are shown instead of sent (`\x1b`, `\u202e`), and what a page would take for markup is escaped. Whatever shows
text goes through here; files of data (CSV, JSON, Parquet) keep it as it is.
"""

from __future__ import annotations

import html as _html
import re

# C0 but tab and line feed, DEL, C1; separators of lines; overrides and isolates of the reading direction; half characters.
_CODES = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~$&])")
# `code` between single backticks, of letters that Markdown leaves alone there.
_CODE_SPAN = re.compile(r"(?<!`)(`[^`<>|&\\\n]+`)(?!`)")
_TEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\`{}",
    "[": "{[}",
    "]": "{]}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≈": r"$\approx$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "∞": r"$\infty$",
    "·": r"$\cdot$",
    "…": r"\ldots{}",
    "†": r"$\dagger$",
    "α": r"$\alpha$",
    "κ": r"$\kappa$",
    "λ": r"$\lambda$",
    "ρ": r"$\rho$",
    "τ": r"$\tau$",
    "\n": " ",
    "\t": " ",
}


def visible(text: str) -> str:
    """Text whose control codes are seen and do nothing; lines and tabs stay."""
    return _CODES.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    r"""The same on one line: line feeds and tabs are seen, too, as `\n` and `\t`."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def markdown(text: str) -> str:
    """Text that Markdown shows as it is, in a table cell as well."""
    return _MARKDOWN.sub(r"\\\1", visible(text).replace("\n", " "))


def markdown_prose(text: str) -> str:
    """A sentence that may hold `code`; all else is shown as it is."""
    pieces = _CODE_SPAN.split(visible(text))
    return "".join(piece if i % 2 else markdown(piece) for i, piece in enumerate(pieces))


def html(text: str) -> str:
    """Text that HTML shows as it is, between tags and in quoted attributes."""
    return _html.escape(visible(text))


def tex(text: str) -> str:
    """Text that LaTeX typesets as it is; what pdfLaTeX has no glyph for is written as its code point, `U+4E2D`."""
    return "".join(map(_tex_character, text))


def tex_comment(text: str) -> str:
    """Text that stays within one line after a `%`, and names no command there."""
    return " ".join(visible(text).split()).replace("\\", _TEX["\\"])


def json_text(encoded: str) -> str:
    """A JSON document with the codes that JSON lets stand in texts (DEL, C1, directions) as its escapes: the same data."""
    return _CODES.sub(lambda code: f"\\u{ord(code[0]):04x}", encoded)


def _escape(code: re.Match[str]) -> str:
    number = ord(code[0])
    return {"\r": "\\r"}.get(code[0]) or (f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}")


def _tex_character(character: str) -> str:
    if character in _TEX:
        return _TEX[character]
    if " " <= character <= "~":
        return character
    return rf"\texttt{{U+{ord(character):04X}}}"
