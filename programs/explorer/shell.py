"""The one document of the explorer: its script, its style, and what the first view shows."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from importlib.resources import files
from typing import Any

import orjson

SCRIPT, STYLE = "explorer.js", "explorer.css"
ASSETS = (SCRIPT, STYLE, "LICENSES.txt")
# Of a folder, where a browser takes 'self' for nothing: no script inside the page, and nothing is fetched or sent.
STATIC_POLICY = (
    "default-src 'none'; script-src 'self' file:; style-src 'self' file:; img-src data:; base-uri 'none'; form-action 'none'"
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_DOCUMENT = """\
<!DOCTYPE html>
<html lang="en"{attributes}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">{policy}
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}{style}">
<script defer src="{root}{script}"></script>
<script type="application/json" id="first">{first}</script>
</head>
<body>
<div id="page"></div>
<noscript><p>The explorer needs JavaScript; it takes it from nowhere but here.</p></noscript>
</body>
</html>
"""


def asset(name: str) -> bytes:
    """A file of the page, as it ships."""
    return (files(__package__) / "page" / name).read_bytes()


def document(title: str, first: Mapping[str, Any], *, static: bool = False) -> bytes:
    """The document.

    Args:
        title: plain text.
        first: payloads by their data address.
        static: whether it lies in a folder, without a server.
    """
    told = dumped(dict(first)).replace(b"<", b"\\u003c").decode()
    return _DOCUMENT.format(
        attributes=" data-static" if static else "",
        policy=f'\n<meta http-equiv="Content-Security-Policy" content="{STATIC_POLICY}">' if static else "",
        title=escape(title),
        root="" if static else "/",
        style=STYLE,
        script=SCRIPT,
        first=told,
    ).encode()


def dumped(payload: Any) -> bytes:
    """A payload as JSON; numbers that are none are null."""
    return orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
