"""What serves over HTTP, whatever it answers: where it listens and for whom, bodies that come in, clients that leave."""

from __future__ import annotations

import importlib.util

from rrti_sgl.errors import UsageError


def check_installed(what: str, *packages: str, otherwise: str = "") -> None:
    """What serves over HTTP comes with SGLang, not with this package alone.

    Args:
        what: is served.
        packages: that it needs, by their names on an index.
        otherwise: what there is to do without them.

    Raises:
        UsageError: one is not installed; says what to install.
    """
    if missing := [name for name in packages if importlib.util.find_spec(name.replace("-", "_")) is None]:
        remedy = f"Install it: pip install {' '.join(packages)}. {otherwise}".rstrip()
        raise UsageError(f"The {what} needs {' and '.join(missing)}.", remedy)
