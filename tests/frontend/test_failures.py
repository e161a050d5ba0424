"""Errors of programs surface as exceptions, in bounded time, on real servers."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from rrti_sgl.engines.transport import TransportLimits
from rrti_sgl.errors import EndpointError, UsageError
from rrti_sgl.programs.frontend import InterventionBackend
from rrti_sgl.science.gates import NeverGate
from rrti_sgl.serving.server import ServedPair, free_port
from tests.frontend.conftest import OpenBackend, guided

import sglang as sgl  # isort: skip  # after rrti_sgl.programs.frontend, which makes it importable on a machine without a GPU

pytestmark = [
    pytest.mark.server,
    pytest.mark.timeout(900),
]


@sgl.function
def more_after_gen(s: Any, question: str, max_tokens: int = 8, regex: str | None = None) -> None:
    s += question
    s += sgl.gen("solution", max_tokens=max_tokens, temperature=0, regex=regex)
    for _ in range(5):
        s += " then"
        time.sleep(0.01)


@sgl.function
def forked_after_gen(s: Any, question: str) -> None:
    s += question + sgl.gen("solution", max_tokens=8, n=2)
    time.sleep(0.1)
    s.fork(2)


def test_a_failed_program_raises_where_a_result_is_asked(open_backend: OpenBackend, questions: list[str]) -> None:
    state = more_after_gen.run(questions[0], regex="[0-9]+", backend=open_backend())
    with pytest.raises(UsageError, match="regex"):
        _ = state["solution"]
    assert isinstance(state.error(), UsageError)
    for ask in (lambda: state["solution"], state.text, state.messages, lambda: state.get_meta_info("solution")):
        with pytest.raises(UsageError, match="regex"):
            ask()


def test_a_batch_gives_the_error_of_each_failed_program(open_backend: OpenBackend, questions: list[str]) -> None:
    arguments = [{"question": questions[0], "max_tokens": n} for n in (8, 100_000, 8)]
    good, bad, also_good = more_after_gen.run_batch(arguments, backend=open_backend(), num_threads=3)
    assert good["solution"] == also_good["solution"]
    assert good.text().endswith(" then")
    with pytest.raises(UsageError, match="100000"):
        bad.text()


def test_forking_a_failed_program_raises(open_backend: OpenBackend, questions: list[str]) -> None:
    with pytest.raises(UsageError, match="n=2"):
        forked_after_gen.run(questions[0], backend=open_backend())


@pytest.mark.parametrize("read", ["at once", "after the end"])
@pytest.mark.parametrize("name", [None, "solution"])
def test_a_stream_of_a_failed_program_raises(
    name: str | None, read: str, open_backend: OpenBackend, questions: list[str]
) -> None:
    state = more_after_gen.run(questions[0], regex="a", backend=open_backend(), stream=True)
    if read == "after the end":
        state.stream_executor.worker.join()
        assert not state.stream_executor.worker.is_alive()
    with pytest.raises(UsageError, match="regex"):
        list(state.text_iter(name))


@sgl.function
def one_bad_branch(s: Any, question: str, mode: str) -> None:
    s += question
    forks = s.fork(2)
    for i, fork in enumerate(forks):
        fork += sgl.gen("step", max_tokens=4 + i * 100_000, temperature=0)
    forks.join(mode)
    s += " so" + sgl.gen("rest", max_tokens=4, temperature=0)


@pytest.mark.parametrize("mode", ["gather_variable", "concate_and_append"])
def test_joining_a_failed_branch_raises(mode: str, open_backend: OpenBackend, questions: list[str]) -> None:
    with pytest.raises(UsageError, match="100004"):
        one_bad_branch.run(questions[0], mode, backend=open_backend()).text()


def test_no_thread_of_a_failed_program_stays(open_backend: OpenBackend, questions: list[str]) -> None:
    """A process would never end with it; the error's traceback holds the program's forks for as long as it is kept."""
    before = set(threading.enumerate())
    kept = []
    for program, arguments in (
        (one_bad_branch, ("concate_and_append",)),
        (forked_after_gen, ()),
        (more_after_gen, (99_999,)),
    ):
        with pytest.raises(UsageError) as error:
            program.run(questions[0], *arguments, backend=(backend := open_backend())).text()
        kept.append(error)
        backend.close()
    for thread in set(threading.enumerate()) - before:
        if "_run_worker_in_context" in repr(getattr(thread, "_args", "")):
            thread.join()
            assert not thread.is_alive()


def test_without_a_thread_the_error_is_raised_at_once(open_backend: OpenBackend, questions: list[str]) -> None:
    with pytest.raises(UsageError, match="regex"):
        more_after_gen.run(questions[0], regex="a", backend=open_backend(), use_thread=False)


@pytest.mark.parametrize("side", ["base", "reasoning"])
def test_a_lost_server_is_named(side: str, open_backend: OpenBackend, questions: list[str]) -> None:
    backend = open_backend(limits=TransportLimits(timeout_s=10, retries=1, backoff_s=0.1, patience_s=0))
    url = f"http://127.0.0.1:{free_port()}"
    getattr(backend._session.pair, side)._transport.url = url
    state = more_after_gen.run(questions[0], backend=backend)
    with pytest.raises(EndpointError, match=url):
        state.text()


def test_unreachable_servers_are_found_on_opening() -> None:
    with pytest.raises(EndpointError, match="127"):
        InterventionBackend(f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}", NeverGate())
    assert "intervention backend" not in {thread.name for thread in threading.enumerate()}


def test_bad_options_are_found_on_opening(open_backend: OpenBackend) -> None:
    for gate, options, named in (
        ("guided", {}, "tau"),
        ("no-such-program", {}, "no-such-program"),
        (guided(), {"tau": 0.5}, "tau"),
        ("guided", {"tau": 0.5, "limit": 3}, "limit"),
        ("guided", {"tua": 0.5}, "tau"),
        (guided(), {"k": 100_000}, "k = 100000"),
        (guided(), {"draft_tokens": 0}, "draft_tokens"),
    ):
        with pytest.raises(UsageError, match=named):
            open_backend(gate, **options)


def test_closing_ends_running_programs_and_refuses_new_ones(
    served_pair: ServedPair, open_backend: OpenBackend, questions: list[str]
) -> None:
    backend = open_backend(concurrency=None)
    states: list[Any] = []
    runner = threading.Thread(
        target=lambda: states.extend(more_after_gen.run_batch([(question, 110) for question in questions], backend=backend))
    )
    runner.start()
    time.sleep(0.2)
    backend.close()
    backend.close()
    runner.join()
    assert not runner.is_alive()
    closed = [state for state in states if state.error() is not None]
    assert closed
    for state in closed:
        with pytest.raises(UsageError, match="closed"):
            state.text()
    with pytest.raises(UsageError, match="closed"):
        more_after_gen.run(questions[0], backend=backend).text()


def test_an_abandoned_stream_stops_decoding(open_backend: OpenBackend, questions: list[str]) -> None:
    backend = open_backend()
    state = more_after_gen.run(questions[0], 300, backend=backend)
    params = sgl.lang.ir.SglSamplingParams(max_new_tokens=110, temperature=0.0)
    state.sync()
    pieces = backend.generate_stream(state.stream_executor, params)
    next(pieces)
    pieces.close()
    while backend._portal._running:  # to its end; one that never came would be seen by the time limit of the module
        time.sleep(0.02)


def test_num_api_spec_tokens_is_refused(open_backend: OpenBackend, questions: list[str]) -> None:
    @sgl.function(num_api_spec_tokens=16)
    def speculative(s: Any, question: str) -> None:
        s += question + sgl.gen("solution", max_tokens=8, temperature=0)

    state = speculative.run(questions[0], backend=open_backend())
    assert isinstance(state.error(), UsageError)
