"""Keys of our own servers: kept for their owner alone, found by address, and taken from a file."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from rrti_sgl.engines.transport import Transport, TransportLimits
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.serving import keys
from rrti_sgl.serving.server import Server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_kept_key_is_its_owners_and_is_found_by_address() -> None:
    keys.keep(keys.key_path(4711), "k" * 20)
    path = keys.key_path(4711)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert keys.found_key("http://127.0.0.1:4711/") == keys.found_key("http://localhost:4711") == "k" * 20
    for elsewhere in (
        "http://10.0.0.1:4711",
        "http://example.com:4711",
        "http://127.0.0.1:4712",
        "http://127.0.0.1",
        "http://[",
    ):
        assert keys.found_key(elsewhere) is None
    keys.forget(4711)
    keys.forget(4711)
    assert keys.found_key("http://127.0.0.1:4711") is None


def test_a_link_that_lies_there_is_replaced_and_not_followed(tmp_path: Path) -> None:
    path, victim = keys.key_path(4711), tmp_path / "victim"
    path.parent.mkdir(parents=True)
    victim.write_text("mine")
    path.symlink_to(victim)
    keys.keep(path, "k" * 20)
    assert victim.read_text() == "mine"
    assert not path.is_symlink()


def test_a_place_that_cannot_be_written_is_told(cache: Path) -> None:
    cache.write_text("no folder")
    with pytest.raises(UsageError, match="cannot be kept"):
        keys.keep(keys.key_path(4711), "k" * 20)


def test_a_key_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    assert keys.given_key(path) == keys.own_key() == keys.given_key(path)
    path.write_text("s" * 16)
    assert keys.given_key(path) == "s" * 16
    for wrong in ("", "short", "s" * 10 + " " + "s" * 10, "s" * 20 + "\n" + "t" * 20, "é" * 20):
        path.write_text(wrong)
        with pytest.raises(UsageError, match="key file"):
            keys.given_key(path)
    path.write_text("s" * 16)
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        keys.given_key(path)
    for nowhere in (tmp_path, path / "key"):
        with pytest.raises(UsageError, match=r"cannot be read or written .*Name a file of yours"):
            keys.given_key(nowhere)


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--api-key=abc", "no command line shows"), ("--admin-api-key", "no command line shows"),
        ("--port=7000", "would not be found at a port"),
    ],
)  # fmt: skip
def test_a_key_or_a_port_among_the_flags_is_refused(tmp_path: Path, flag: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Server("m", "base", tmp_path, [flag], device="cpu").start()
    assert "abc" not in str(caught.value)


def test_a_client_takes_the_key_that_lies_there_when_its_own_does_not_fit() -> None:
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        return web.json_response({}) if asked[-1] == "Bearer right" else web.Response(status=401)

    async def go() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        path = keys.key_path(urlsplit(url).port or 0)
        try:
            for given in (None, "wrong"):
                keys.keep(path, "right")
                client = Transport(url, api_key=given, limits=TransportLimits(retries=0))
                assert await client.get("/x") == {}
                keys.keep(path, "another")
                assert await client.get("/x") == {}  # it goes on with the one that was taken
                await client.close()
            client = Transport(url, limits=TransportLimits(retries=0))
            with pytest.raises(EndpointError, match="refuses access"):
                await client.get("/x")
            keys.keep(path, "right")  # the server came back, with another key
            assert await client.get("/x") == {}
            await client.close()
        finally:
            await runner.cleanup()

    asyncio.run(go())
    right, wrong, another = "Bearer right", "Bearer wrong", "Bearer another"
    assert asked == [right, right, wrong, right, right, another, another, right]
