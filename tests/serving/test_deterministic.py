"""SGLang's deterministic inference is refused where it cannot be had, before a server is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrti_sgl.errors import UsageError
from rrti_sgl.serving.server import DETERMINISTIC, Server


def test_it_is_refused_on_a_cpu(tmp_path: Path) -> None:
    server = Server("model", "base", tmp_path, [DETERMINISTIC], device="cpu")
    with pytest.raises(UsageError, match="runs on a CPU"):
        server.start()
    assert server.process is None
    assert DETERMINISTIC in server.command(on_cpu=False)  # on a GPU it is passed on
