"""What keeps others out of a server that we start. It runs inside the server's processes; `keys` is the client's side.

- The key reaches the server through a pipe (`lifeline`): not by its command line, which everybody may read, and not by its
  environment. SGLang asks for it on every route but those for health and metrics.
- SGLang answers pages of any origin, so that any web page in a browser on this machine could use the server. Here it answers
  none. Its one websocket, which no key guards, is taken away.
- torch.distributed's store, by which the processes of one server find each other, listens on every interface, whatever
  address it is given. Here it listens on that address.
"""

from __future__ import annotations

import socket
import sys
from typing import Any


class Secret(str):
    """A key that does not show itself where arguments are logged."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def close(arguments: Any, key: str) -> None:
    """Before a server of these arguments (SGLang's `ServerArgs`) runs in this process: no answer to who has not the key."""
    from fastapi.middleware.cors import CORSMiddleware
    from sglang.srt.entrypoints.http_server import app
    from starlette.routing import WebSocketRoute

    try:
        arguments.api_key = Secret(key)
    except AttributeError:  # 0.5.17 takes no plain assignment to what it has resolved
        object.__setattr__(arguments, "api_key", Secret(key))
    app.user_middleware[:] = [each for each in app.user_middleware if each.cls is not CORSMiddleware]
    app.router.routes[:] = [route for route in app.router.routes if not isinstance(route, WebSocketRoute)]


def keep_store_on_its_address() -> None:
    """In a process of a server: let the store of torch.distributed listen where it is told to, and nowhere else."""
    import torch.distributed  # noqa: F401  # loads the next

    rendezvous: Any = sys.modules["torch.distributed.rendezvous"]  # the package hides it behind a function of that name
    original = rendezvous.TCPStore

    def store(host_name: str, port: int, **named: Any) -> Any:
        if named.get("is_master"):
            family = socket.AF_INET6 if ":" in host_name else socket.AF_INET
            named["master_listen_fd"] = socket.create_server((host_name, port), family=family).detach()
        return original(host_name, port, **named)

    rendezvous.TCPStore = store
