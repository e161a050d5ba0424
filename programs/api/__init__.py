"""An OpenAI-compatible endpoint over the session: completions, chats and models, each program under a name.

`rrti api` serves it over servers that run, `rrti serve --api` over servers that it starts. A request is read and refused by
name (`fields`, `naming`), becomes prompts of both models (`prompts`) and samples of the session (`samples`), and its events
become answers (`answers`). `admission` bounds what is in flight, `recording` keeps traces, `metrics` counts.
"""

from __future__ import annotations

import importlib.util

from rrti_sgl.errors import UsageError


def check_installed() -> None:
    """What serves the endpoint comes with SGLang, not with this package alone.

    Raises:
        UsageError: it is not installed; says what to install.
    """
    if missing := [name for name in ("fastapi", "uvicorn", "prometheus_client") if importlib.util.find_spec(name) is None]:
        raise UsageError(
            f"The endpoint needs {', '.join(missing)}.", "Install it: pip install fastapi prometheus-client uvicorn"
        )
