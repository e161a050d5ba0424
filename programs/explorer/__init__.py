"""`rrti view`: a store to look at in a browser, sample by sample and token by token.

What a page shows is a payload out of the store (`explorer`, and what it stands on: `samples`, `sample`, `tree`, `tokens`,
`aggregates`), read by the page's script (`page/`, built from the TypeScript in `front/`). `app` answers a browser, `shell`
is its document, `export` writes the same payloads as a folder that needs no server, and `branching` lets a pair of models go
on from a token.
"""

from __future__ import annotations

import importlib.util

from rrti_sgl.errors import UsageError, command


def check_installed() -> None:
    """What answers a browser comes with SGLang, not with this package alone.

    Raises:
        UsageError: it is not installed; says what to install.
    """
    if missing := [name for name in ("fastapi", "uvicorn") if importlib.util.find_spec(name) is None]:
        without = command("view", export="FOLDER")
        remedy = f"Install it: pip install fastapi uvicorn. Or write a page that needs no server: {without}."
        raise UsageError(f"The explorer needs {' and '.join(missing)}.", remedy)
