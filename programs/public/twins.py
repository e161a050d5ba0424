"""One definition, two ways to call it: `x` waits, `ax` is awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial, update_wrapper
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
Result = TypeVar("Result")
Awaited = Callable[P, Coroutine[Any, Any, Result]]


def twins(work: Awaited[P, Result]) -> tuple[Callable[P, Result], Awaited[P, Result]]:
    """The two methods of a coroutine method `_x` that works in the event loop of its object's `_portal`.

    The second may be awaited in any event loop; cancelling it cancels the work.
    """

    def waiting(*args: P.args, **kwargs: P.kwargs) -> Result:
        owner: Any = args[0]
        result: Result = owner._portal.call(partial(work, *args, **kwargs))
        return result

    async def awaited(*args: P.args, **kwargs: P.kwargs) -> Result:
        owner: Any = args[0]
        result: Result = await asyncio.wrap_future(owner._portal.submit(partial(work, *args, **kwargs)))
        return result

    name = work.__name__.removeprefix("_")
    _name(waiting, work, name)
    _name(awaited, work, f"a{name}", f"`{name}`, awaited.")
    return waiting, awaited


def in_thread(method: Callable[P, Result]) -> Awaited[P, Result]:
    """The twin of a function or method that needs no event loop: it goes on in a thread."""

    async def awaited(*args: P.args, **kwargs: P.kwargs) -> Result:
        return await asyncio.to_thread(method, *args, **kwargs)

    _name(awaited, method, f"a{method.__name__}", f"`{method.__name__}`, awaited.")
    return awaited


def _name(function: Callable[..., Any], work: Callable[..., Any], name: str, doc: str | None = None) -> None:
    update_wrapper(function, work)
    function.__name__ = name
    function.__qualname__ = f"{work.__qualname__.removesuffix(work.__name__)}{name}"
    if doc is not None:
        function.__doc__ = doc
