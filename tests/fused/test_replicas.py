"""Several servers of both models behind a router: found by asking it, each asked itself, and alike to one."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from rrti_sgl.db.store import Store
from rrti_sgl.engines.fused_server import OneModelError, connect_fused
from rrti_sgl.errors import EndpointError
from rrti_sgl.fused import ALGORITHM
from rrti_sgl.programs.program import GateOptions
from rrti_sgl.programs.running.runner import run_program
from rrti_sgl.programs.running.session import open_session
from rrti_sgl.programs.running.settings import RunSettings
from rrti_sgl.serving.fused import BothModels
from rrti_sgl.serving.router import Replicas
from rrti_sgl.serving.server import free_port
from tests.fused.conftest import serving

WITH_ROUTER = importlib.util.find_spec("sglang_router") is not None


@asynccontextmanager
async def answering(routes: dict[str, Any]) -> AsyncIterator[str]:
    """Something that answers so at its paths, as a server or a router would."""

    async def answer(request: web.Request) -> web.Response:
        found = routes.get(request.path)
        return web.Response(status=404) if found is None else web.json_response(found)

    served = web.Application()
    served.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(served)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def of_both(base: str = "/models/base", **told: Any) -> dict[str, Any]:
    info = {
        "version": "0.5.23", "served_model_name": "bundled/reasoning", "max_req_input_len": 100, "max_running_requests": 8,
        "speculative_algorithm": ALGORITHM, "speculative_draft_model_path": base, "speculative_num_draft_tokens": 8,
    }  # fmt: skip
    return {"/model_info": {"model_path": "/models/reasoning"}, "/server_info": info | told}


def before(*urls: str) -> dict[str, Any]:
    return {"/get_server_info": {"router_manager": True}, "/workers": {"workers": [{"url": url} for url in urls]}}


def test_a_router_stands_for_the_servers_behind_it() -> None:
    async def go() -> None:
        async with (
            answering(of_both()) as first, answering(of_both(max_req_input_len=90)) as second,
            answering(before(first, second)) as url, connect_fused(url) as (base, reasoning),
        ):  # fmt: skip
            assert [server.info.name for server in base.servers] == [first, second]
            assert (reasoning.info.model, base.info.model) == ("bundled/reasoning", "bundled/base")
            assert (reasoning.info.max_input_tokens, reasoning.info.max_running_requests) == (89, 16)
            assert reasoning.info.details["replicas"] == 2

    asyncio.run(go())


@pytest.mark.parametrize(
    ("behind", "error", "message"),
    [
        ([], EndpointError, "has no servers"),
        ([of_both(), of_both(base="/other")], EndpointError, "are not alike"),
        ([of_both(speculative_algorithm=None)], OneModelError, "holds one"),
    ],
)
def test_what_stands_behind_a_router_is_checked(behind: list[dict[str, Any]], error: type[Exception], message: str) -> None:
    async def go() -> None:
        servers = [answering(routes) for routes in behind]
        urls = [await server.__aenter__() for server in servers]
        try:
            async with answering(before(*urls)) as url:
                with pytest.raises(error, match=message):
                    async with connect_fused(url):
                        pass
        finally:
            for server in servers:
                await server.__aexit__(None, None, None)

    asyncio.run(go())


@pytest.fixture(scope="module")
def two(fused: BothModels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BothModels, BothModels]]:
    with serving(tmp_path_factory.mktemp("second"), *fused.flags, steering={"gate": "always"}) as second:
        yield fused, second


def calls(server: BothModels) -> int:
    return server.log_path.read_text().count("POST /generate")


async def texts(url: str, folder: Path) -> list[dict[str, Any]]:
    """What a guided run wrote, by problem."""
    with Store.open(folder / f"{url.rpartition(':')[2]}.duckdb") as store:
        async with open_session(url, url) as session:
            settings = RunSettings("guided", "world:heldout", 12, gate=GateOptions(tau=0.5))
            record = await run_program(session, store, settings)
        assert record.status == "finished"
        return store.sql("SELECT problem_id, text FROM samples ORDER BY problem_id").to_pylist()


@pytest.mark.server
@pytest.mark.slow
def test_a_run_on_two_replicas_is_that_on_one(two: tuple[BothModels, BothModels], tmp_path: Path) -> None:
    async def on_both() -> list[dict[str, Any]]:
        async with answering(before(*(server.url for server in two))) as url:
            return await texts(url, tmp_path)

    earlier = [calls(server) for server in two]
    found = asyncio.run(on_both())
    shares = [calls(server) - n for server, n in zip(two, earlier, strict=True)]
    assert min(shares) > 0
    assert sum(shares) == 12
    assert len(found) == 12
    assert found == asyncio.run(texts(two[0].url, tmp_path))


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.skipif(not WITH_ROUTER, reason="sglang-router is not installed")
def test_sglangs_own_router_before_them(two: tuple[BothModels, BothModels], tmp_path: Path) -> None:
    replicas = Replicas("fused", two, free_port())
    try:
        while not replicas.is_ready():
            assert replicas.lost() is None
        earlier = [calls(server) for server in two]
        found = asyncio.run(texts(replicas.url, tmp_path))
        assert min(calls(server) - n for server, n in zip(two, earlier, strict=True)) > 0

        async def other_client() -> str:
            body = {"input_ids": [3, 4, 5], "sampling_params": {"max_new_tokens": 4, "temperature": 0}}
            async with (
                aiohttp.ClientSession(headers={"Authorization": f"Bearer {two[0].key}"}) as session,
                session.post(f"{replicas.url}/generate", json=body) as answer,
            ):
                return await answer.text()

        answer = asyncio.run(other_client())
        assert "output_ids" in answer, answer
    finally:
        if replicas._router is not None:
            replicas._router.stop()
    assert found == asyncio.run(texts(two[1].url, tmp_path))
