"""A failed program state raises its error instead of hanging.

SGLang's interpreter runs a state's expressions in a thread. When one fails, the thread ends: what is appended afterwards
stays in its queue for ever, so that `text()`, `fork()` and `run_batch()` wait for ever; reading a variable says `KeyError`,
and a stream ends as if it were complete. `fail` turns the one state that failed into a `_Failed`:

- what is appended is ignored, as SGLang ignores what was waiting in the queue already;
- `state.error()` returns the error, as SGLang has it;
- the text, the messages and unfinished variables raise the error, also for those who wait for them already: `text()`,
  `state["name"]`, `text_iter()`, `fork()` and `join()`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from sglang.lang.interpreter import StreamExecutor


class _Variables(dict[str, Any]):
    """Variables of a failed state: those that were finished are there, the others raise."""

    def __init__(self, finished: dict[str, Any], error: Exception) -> None:
        super().__init__(finished)
        self.error = error

    def __missing__(self, name: str) -> NoReturn:
        raise self.error

    def keys(self) -> NoReturn:
        """Asked by `join`, which would leave the missing ones out."""
        raise self.error


class _Failed(StreamExecutor):  # type: ignore[misc]  # SGLang is not typed
    """A state whose program failed."""

    def submit(self, expr: Any) -> None:
        pass

    def sync(self) -> None:
        if self.use_thread and threading.current_thread() is not self.worker:
            self.worker.join()

    def get_meta_info(self, name: str, timeout: float | None = None) -> Any:
        self.sync()
        if name in self.variables:
            return self.meta_info.get(name)
        raise self.error_

    @property
    def text_(self) -> NoReturn:
        # A state that joins the text of a failed branch fails with it; its own thread would end like the branch's.
        asking = sys._getframe(1).f_locals.get("self")
        if isinstance(asking, StreamExecutor) and asking is not self:
            fail(asking, self.error_)
        raise self.error_

    @property
    def messages_(self) -> NoReturn:
        raise self.error_

    @property
    def is_finished(self) -> NoReturn:
        """Asked by a stream that begins after the program has ended; SGLang would let it be empty."""
        raise self.error_

    @is_finished.setter
    def is_finished(self, _: bool) -> None:
        """The ending thread says so."""


@contextmanager
def failing(executor: Any) -> Iterator[None]:
    """What is raised inside is the end of this program state."""
    try:
        yield
    except Exception as error:
        fail(executor, error)
        raise


def fail(executor: Any, error: Exception) -> None:
    """Make a stream executor raise `error` wherever a result is asked of it."""
    finished = {
        name: value
        for name, value in dict(executor.variables).items()
        if name not in executor.variable_event or executor.variable_event[name].is_set()
    }
    executor.error_ = error
    executor.variables = _Variables(finished, error)
    executor.__class__ = _Failed
    # SGLang wakes them as well, but only after a warning, which may be an error itself.
    for event in [*executor.variable_event.values(), *(executor.stream_var_event or {}).values()]:
        event.set()
