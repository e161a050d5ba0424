"""What Prometheus reads: requests, tokens, takeovers, rho, what is in flight and waits, latencies; each by program."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rrti_sgl.decoding.trace import TraceBuilder

if TYPE_CHECKING:
    from rrti_sgl.programs.api.admission import Admission
    from rrti_sgl.programs.running.recording import Recorder

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_SHARES = (0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1)


class Metrics:
    """The numbers of one endpoint, in a registry of its own.

    Args:
        admission: knows what is in flight.
        recorder: knows what waits for the store.
    """

    def __init__(self, admission: Admission, recorder: Recorder) -> None:
        self._registry = registry = CollectorRegistry()
        of = ["program"]
        self._requests = Counter(
            "rrti_requests", "Requests by route and HTTP status.", ["route", "status"], registry=registry
        )
        self._left = Counter("rrti_clients_left", "Clients that left before their answer was whole.", registry=registry)
        self._refused = Counter("rrti_refused", "Requests refused because something was full.", ["what"], registry=registry)
        self._samples = Counter("rrti_samples", "Finished samples.", of, registry=registry)
        self._prompt = Counter(
            "rrti_prompt_tokens",
            "Prompt tokens of finished samples, as the model reads them that writes.",
            of,
            registry=registry,
        )
        self._tokens = Counter("rrti_tokens", "Generated tokens of finished samples.", of, registry=registry)
        self._takeovers = Counter(
            "rrti_takeovers", "Of these, tokens that the reasoning model wrote.", of, registry=registry
        )
        self._rho = Histogram("rrti_rho", "Share of takeovers in a finished sample.", of, buckets=_SHARES, registry=registry)
        self._first = Histogram(
            "rrti_first_token_seconds", "From admission to the first text.", of, buckets=_SECONDS, registry=registry
        )
        self._between = Histogram(
            "rrti_token_seconds", "Per token, after the first text.", of, buckets=_SECONDS, registry=registry
        )
        self._whole = Histogram(
            "rrti_sample_seconds", "From admission to the end of a sample.", of, buckets=_SECONDS, registry=registry
        )
        for name, text, value in (
            ("rrti_samples_running", "Samples that are decoded.", lambda: admission.running),
            ("rrti_samples_waiting", "Samples that wait for a place.", lambda: admission.waiting),
            ("rrti_traces_waiting", "Finished samples on their way to the store.", lambda: recorder.unstored),
        ):
            Gauge(name, text, registry=registry).set_function(value)

    def request(self, route: str, status: int) -> None:
        """Count an answer."""
        self._requests.labels(route, status).inc()

    def left(self) -> None:
        """Count a client that left."""
        self._left.inc()

    def refused(self, what: str) -> None:
        """Count a refusal because something was full."""
        self._refused.labels(what).inc()

    def watch(self, program: str, prompt_tokens: int) -> Watch:
        """The times of one sample, from now."""
        return Watch(self, program, prompt_tokens)

    def exposition(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)

    def finished(
        self, program: str, prompt_tokens: int, trace: TraceBuilder, first_s: float | None, whole_s: float, later: int
    ) -> None:
        """Count a finished sample; `later` are the tokens after the first text."""
        self._prompt.labels(program).inc(prompt_tokens)
        n, taken = len(trace), trace.sources.count("reasoning")
        self._samples.labels(program).inc()
        self._tokens.labels(program).inc(n)
        self._takeovers.labels(program).inc(taken)
        self._rho.labels(program).observe(taken / max(n, 1))
        self._whole.labels(program).observe(whole_s)
        if first_s is not None:
            self._first.labels(program).observe(first_s)
            if later:
                self._between.labels(program).observe((whole_s - first_s) / later)


class Watch:
    """Times one sample."""

    def __init__(self, metrics: Metrics, program: str, prompt_tokens: int) -> None:
        self._metrics, self._program, self._prompt_tokens = metrics, program, prompt_tokens
        self._begun = time.perf_counter()
        self._first: float | None = None
        self._seen = self._at_first = 0

    def tokens(self, n: int) -> None:
        """Note n tokens whose text is settled."""
        self._seen += n
        if self._first is None:
            self._first, self._at_first = time.perf_counter() - self._begun, self._seen

    def finished(self, trace: TraceBuilder) -> None:
        """Note the end."""
        whole = time.perf_counter() - self._begun
        later = len(trace) - self._at_first if self._first else 0
        self._metrics.finished(self._program, self._prompt_tokens, trace, self._first, whole, later)
