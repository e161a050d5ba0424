"""What an SGLang server, or a router with several of them behind it, says of itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from rrti_sgl import bounds
from rrti_sgl.engines.engine import EngineInfo
from rrti_sgl.engines.transport import Transport
from rrti_sgl.engines.wire import UNREADABLE
from rrti_sgl.errors import EndpointError
from rrti_sgl.serving.hardware import hardware_of
from rrti_sgl.serving.versions import MODEL_INFO_ROUTES, SERVER_INFO_ROUTES, check_version, served_name

_KEPT = (
    *("version", "dtype", "device", "attention_backend", "disable_radix_cache", "random_seed", "tp_size"),
    "enable_deterministic_inference",
)


async def identify(transport: Transport) -> tuple[EngineInfo, bool]:
    """What is at an address, and whether it is a router. The vocabulary's size is left at 0: servers do not tell it.

    Raises:
        EndpointError: it cannot be reached, is no SGLang server, or one of a version that is not supported.
    """
    server = await transport.first_of(*SERVER_INFO_ROUTES)
    if "router_manager" in server:
        return await _behind_router(transport), True
    return await _of_server(transport, server), False


async def _of_server(transport: Transport, server: dict[str, Any]) -> EngineInfo:
    """What a server is that tells this of itself, and what it tells of its model."""
    model = await transport.first_of(*MODEL_INFO_ROUTES)
    try:
        check_version(str(server["version"]), transport.url)
        return EngineInfo(
            name=transport.url,
            model=served_name(model, server),
            tokenizer=str(model.get("tokenizer_path") or model["model_path"]),
            version=str(server["version"]),
            vocab_size=0,
            # SGLang refuses an input of exactly the length that it names.
            max_input_tokens=int(server.get("max_req_input_len") or server["max_total_num_tokens"]) - 1,
            max_running_requests=int(server.get("max_running_requests") or 64),
            details={name: server.get(name) for name in _KEPT}
            | {"hardware": hardware_of(transport.url, server.get("device"))},
        )
    except UNREADABLE as error:
        raise EndpointError(
            f"{transport.url} answers, but not like an SGLang server ({type(error).__name__}: {error}).",
            "Point the option at an SGLang server's native address (http://HOST:PORT without /v1).",
        ) from error


async def servers_behind(transport: Transport) -> list[str]:
    """Addresses of the servers behind a router.

    Raises:
        EndpointError: it has none, or cannot be asked.
    """
    listed = (await transport.get("/workers")).get("workers") or []
    if not listed:
        raise EndpointError(f"The router {transport.url} has no servers.", "Start them, and look at the router's log.")
    try:
        return [str(worker["url"]) for worker in listed[: bounds.GPUS]]
    except UNREADABLE as error:
        message = f"{transport.url} answers, but not like a router ({type(error).__name__}: {error})."
        raise EndpointError(message, "Give the address of SGLang's router, or of a server.") from error


async def _behind_router(transport: Transport) -> EngineInfo:
    """What the servers behind a router have in common: the least input length, and all their running requests.

    Raises:
        EndpointError: a server cannot be asked, or they differ in model or version.
    """
    urls = await servers_behind(transport)
    workers: list[Transport] = []
    try:
        workers += [transport.beside(url) for url in urls]
        told = await asyncio.gather(*(worker.first_of(*SERVER_INFO_ROUTES) for worker in workers))
        infos = await asyncio.gather(*map(_of_server, workers, told))
    finally:
        await asyncio.gather(*(worker.close() for worker in workers))
    if len({(info.model, info.version) for info in infos}) > 1:
        served = ", ".join(sorted(f"{info.name}: {info.model} on SGLang {info.version}" for info in infos))
        message = f"The servers behind {transport.url} are not alike ({served})."
        raise EndpointError(message, "Put one model behind a router.")
    return replace(
        infos[0],
        name=transport.url,
        max_input_tokens=min(info.max_input_tokens for info in infos),
        max_running_requests=sum(info.max_running_requests for info in infos),
        details={**infos[0].details, "replicas": len(infos)},
    )
