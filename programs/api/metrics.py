"""What Prometheus reads: requests, tokens, takeovers, rho, what is in flight and waits, latencies; each by program."""

from __future__ import annotations

import time
from functools import partial
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
        self._registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=self._registry), partial(Histogram, registry=self._registry)
        of = ["program"]
        self.requests = counter("rrti_requests", "Requests by route and HTTP status.", ["route", "status"])
        self.left = counter("rrti_clients_left", "Clients that left before their answer was whole.")
        self.refused = counter("rrti_refused", "Requests refused because something was full.", ["what"])
        self.samples = counter("rrti_samples", "Finished samples.", of)
        prompt_tokens = "Prompt tokens of finished samples, as the model reads them that writes."
        self.prompt = counter("rrti_prompt_tokens", prompt_tokens, of)
        self.tokens = counter("rrti_tokens", "Generated tokens of finished samples.", of)
        self.takeovers = counter("rrti_takeovers", "Of these, tokens that the reasoning model wrote.", of)
        self.rho = histogram("rrti_rho", "Share of takeovers in a finished sample.", of, buckets=_SHARES)
        timed = partial(histogram, labelnames=of, buckets=_SECONDS)
        self.first = timed("rrti_first_token_seconds", "From admission to the first text.")
        self.between = timed("rrti_token_seconds", "Per token, after the first text.")
        self.whole = timed("rrti_sample_seconds", "From admission to the end of a sample.")
        for name, text, value in (
            ("rrti_samples_running", "Samples that are decoded.", lambda: admission.running),
            ("rrti_samples_waiting", "Samples that wait for a place.", lambda: admission.waiting),
            ("rrti_traces_waiting", "Finished samples on their way to the store.", lambda: recorder.unstored),
        ):
            Gauge(name, text, registry=self._registry).set_function(value)

    def answered(self, route: str, status: int) -> None:
        """Count an answer."""
        self.requests.labels(route, status).inc()

    def exposition(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)


class Watch:
    """Times one sample, from now, and counts it at its end."""

    def __init__(self, metrics: Metrics, program: str, prompt_tokens: int) -> None:
        self._metrics, self._program, self._prompt_tokens = metrics, program, prompt_tokens
        self._begun = time.perf_counter()
        self._first_s: float | None = None
        self._seen = self._at_first = 0

    def tokens(self, n: int) -> None:
        """Note n tokens whose text is settled."""
        self._seen += n
        if self._first_s is None:
            self._first_s, self._at_first = time.perf_counter() - self._begun, self._seen

    def finished(self, trace: TraceBuilder) -> None:
        """Count the sample."""
        metrics, program, whole_s = self._metrics, self._program, time.perf_counter() - self._begun
        n, taken = len(trace), trace.sources.count("reasoning")
        metrics.prompt.labels(program).inc(self._prompt_tokens)
        metrics.samples.labels(program).inc()
        metrics.tokens.labels(program).inc(n)
        metrics.takeovers.labels(program).inc(taken)
        metrics.rho.labels(program).observe(taken / max(n, 1))
        metrics.whole.labels(program).observe(whole_s)
        if self._first_s is not None:
            metrics.first.labels(program).observe(self._first_s)
            if later := n - self._at_first:
                metrics.between.labels(program).observe((whole_s - self._first_s) / later)
