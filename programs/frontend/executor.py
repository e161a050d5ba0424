"""A failed program state raises its error instead of hanging.

SGLang runs a state's expressions in a thread. When one fails there, the thread ends: what is appended afterwards stays in
its queue for ever, so that `text()`, `fork()` and `run_batch()` wait for ever; reading a variable says `KeyError`, and a
stream ends as if it were complete. `InterventionExecutor` is the executor of programs that run on an
`InterventionBackend`: after an error its thread skips what is queued and ends, and whoever asks for a result of the state
gets the error, also if they were waiting for it already. `state.error()` has it, as SGLang has it.

SGLang has no hook for the class of its executors: `install` puts a function in the place of the one name that it looks up.
"""

from __future__ import annotations

import logging
import threading
from typing import Any, NoReturn

from sglang.lang import interpreter
from sglang.lang.interpreter import StreamExecutor

logger = logging.getLogger(__name__)


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


def _of_success(name: str) -> property:
    """An attribute whose reading raises the error of a failed state."""

    def read(executor: InterventionExecutor) -> Any:
        executor.raise_failure()
        return executor.__dict__[name]

    def write(executor: InterventionExecutor, value: Any) -> None:
        executor.__dict__[name] = value

    return property(read, write)


class InterventionExecutor(StreamExecutor):  # type: ignore[misc]  # SGLang is not typed
    """The executor of one program state; see the module."""

    variables: dict[str, Any]
    failure: Exception | None = None
    text_ = _of_success("text_")  # also read by streams, and by a state that joins the text of its branches
    messages_ = _of_success("messages_")
    is_finished = _of_success("is_finished")  # asked by a stream that begins after the end; SGLang would let it be empty
    _last = False  # whether what ends the thread is in its queue; a second one would never be taken out

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lock = threading.RLock()
        super().__init__(*args, **kwargs)

    def submit(self, expr: Any) -> None:
        """Queue an expression; after a failure nothing is done with it."""
        with self._lock:
            if self.failure is None:
                super().submit(expr)
                return
        self._init_var_event(expr)
        self._wake()

    def end(self) -> None:
        """End the thread when it has done what is queued."""
        with self._lock:
            if self._last or not self.use_thread:
                self.backend.end_program(self)
                return
            self._last = True
            super().end()

    def _execute(self, other: Any) -> None:
        if self.failure is None:
            try:
                super()._execute(other)
            except Exception as error:
                self._fail(error)
                if not self.use_thread:
                    raise
        if self.failure is not None:
            self._wake()  # also those who wait for what was appended since

    def _fail(self, error: Exception) -> None:
        finished = {
            name: value
            for name, value in dict(self.variables).items()
            if name not in self.variable_event or self.variable_event[name].is_set()
        }
        with self._lock:
            self.variables = _Variables(finished, error)
            self.failure = self.error_ = error
            if self.use_thread and not self._last:
                self._last = True
                self.queue.put(None)
        logger.warning("a program failed: %s", error)

    def _wake(self) -> None:
        for event in [*self.variable_event.values(), *(self.stream_var_event or {}).values()]:
            event.set()

    def raise_failure(self) -> None:
        """Raise the state's error, if it failed."""
        if self.failure is not None:
            raise self.failure

    def fork(self, size: int = 1, position_ids_offset: Any = None) -> Any:
        """Further states that go on from this one, or its error."""
        self.sync()
        self.raise_failure()
        forked = super().fork(size, position_ids_offset)
        self.raise_failure()
        return forked

    def get_meta_info(self, name: str, timeout: float | None = None) -> Any:
        """Of a finished variable, or the error."""
        found = super().get_meta_info(name, timeout)
        if name not in self.variables:
            self.raise_failure()
        return found


def install(backend_type: type[Any]) -> None:
    """Let programs on backends of this type run in an `InterventionExecutor`; all others keep SGLang's own."""

    def make(backend: Any, *args: Any, **kwargs: Any) -> StreamExecutor:
        kind = InterventionExecutor if isinstance(backend, backend_type) else StreamExecutor
        return kind(backend, *args, **kwargs)

    interpreter.StreamExecutor = make
