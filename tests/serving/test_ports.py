"""Where a server of ours listens when nobody says: at a port that nothing else takes before it is up."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from rrti_sgl.serving import server
from rrti_sgl.serving.server import free_port

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_a_port_is_none_that_connections_are_given() -> None:
    lowest = int(EPHEMERAL.read_text().split()[0]) if EPHEMERAL.exists() else 32_768
    assert all(1024 < free_port() < lowest for _ in range(20))


def test_a_port_that_is_taken_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    free = free_port()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "_PORTS", [port, free])
        assert {free_port() for _ in range(10)} == {free}
        monkeypatch.setattr(server, "_PORTS", [port])
        with pytest.raises(OSError, match=f"no port from {port} to {port} is free") as raised:
            free_port()
    assert raised.value.errno == errno.EADDRINUSE
