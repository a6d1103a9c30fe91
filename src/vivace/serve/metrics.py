"""Prometheus metrics under vLLM's names, so that dashboards made for it work: what the server
itself sees of requests. engine_metrics.py has what the engine counts."""

from __future__ import annotations

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from vivace.core.request import Delta, FinishReason, Request
from vivace.core.stats import EngineInfo, EngineStats
from vivace.serve.engine_metrics import ENGINE, LABELS, EngineMetrics


def _seconds(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.split()))


# vLLM's buckets (vllm/v1/metrics/loggers.py), with finer ones below its first for fast models.
FIRST_TOKEN_SECONDS = _seconds(
    "0.001 0.005 0.01 0.02 0.04 0.06 0.08 0.1 0.25 0.5 0.75 1 2.5 5 7.5 10 20 40 80 160 640 2560"
)
BETWEEN_TOKENS_SECONDS = _seconds(
    "0.0005 0.001 0.002 0.003 0.005 0.0075 "
    "0.01 0.025 0.05 0.075 0.1 0.15 0.2 0.3 0.4 0.5 0.75 1 2.5 5 7.5 10 20 40 80"
)
REQUEST_SECONDS = _seconds(
    "0.01 0.03 0.1 0.3 0.5 0.8 1 1.5 2 2.5 5 10 15 20 30 40 50 60 120 240 480 960 1920 7680"
)
TOKENS = tuple(float(factor * 10**power) for power in range(6) for factor in (1, 2, 5))
CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)

HISTOGRAMS = {
    "time_to_first_token_seconds": ("From arrival to the first token.", FIRST_TOKEN_SECONDS),
    "inter_token_latency_seconds": ("Between two tokens.", BETWEEN_TOKENS_SECONDS),
    "request_time_per_output_token_seconds": (
        "Between two tokens, as a mean of one request.",
        BETWEEN_TOKENS_SECONDS,
    ),
    "e2e_request_latency_seconds": ("From arrival to the last token.", REQUEST_SECONDS),
    "request_queue_time_seconds": ("From arrival until it first runs.", REQUEST_SECONDS),
    "request_prefill_time_seconds": ("From there to the first token.", REQUEST_SECONDS),
    "request_decode_time_seconds": ("From the first token to the last.", REQUEST_SECONDS),
    "request_inference_time_seconds": ("Prefill and decode together.", REQUEST_SECONDS),
    "request_prompt_tokens": ("Tokens of a prompt.", TOKENS),
    "request_generation_tokens": ("Tokens of an answer.", TOKENS),
    "request_prefill_kv_computed_tokens": ("Prompt tokens that no cache knew.", TOKENS),
    "request_params_max_tokens": ("What max_tokens allows.", TOKENS),
    "request_params_n": ("Choices drawn for a prompt.", CHOICES),
}
# name -> what it counts, the label that it has beside LABELS, and that label's values
COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "request_success": (
        "Requests that ended.",
        "finished_reason",
        ("stop", "length", "abort", "error", "deadline"),
    ),
    "admission_rejections": (
        "Requests that were refused because the queue was full.",
        "reason",
        ("max_num_queued_reqs", "max_num_queued_tokens"),
    ),
    "prompt_tokens_by_source": (
        "Prompt tokens of requests that drew a token.",
        "source",
        ("local_compute", "local_cache_hit"),
    ),
}
CORRUPTED = "corrupted_output"  # the code of an engine's error


class ServerMetrics:
    """The metrics of one server, in a registry of their own.

    Args:
        info: None leaves out what is fixed at load.
    """

    def __init__(self, model_name: str, info: EngineInfo | None = None) -> None:
        self.registry = CollectorRegistry()
        self._labels = (model_name, ENGINE)
        self._engine = EngineMetrics(self._labels, info)
        self.registry.register(self._engine)
        self.histograms = {name: self._histogram(name, *told) for name, told in HISTOGRAMS.items()}
        self.counters = {name: self._by_label(name, *told) for name, told in COUNTERS.items()}
        self.cached = self._counter("prompt_tokens_cached", "Prompt tokens found in a cache.")
        self.corrupted = self._counter("corrupted_requests", "Requests whose output was no number.")

    def watch(self, request: Request) -> RequestWatch:
        """Measure one request, which arrives now."""
        return RequestWatch(self, request)

    def asked(self, requests: Sequence[Request]) -> None:
        """A call begins, of the same number of choices for each prompt."""
        num_prompts = sum(request.index == 0 for request in requests)
        for _ in range(num_prompts):
            self.histograms["request_params_n"].observe(len(requests) / num_prompts)

    def render(self, stats: EngineStats | None) -> bytes:
        """Prometheus text; without the engine's own metrics where it cannot be asked."""
        self._engine.stats = stats
        return generate_latest(self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(f"vllm:{name}", text, LABELS, buckets=buckets, registry=self.registry)
        return family.labels(*self._labels)

    def _by_label(
        self, name: str, text: str, label: str, values: tuple[str, ...]
    ) -> dict[str, Counter]:
        family = Counter(f"vllm:{name}", text, (*LABELS, label), registry=self.registry)
        return {value: family.labels(*self._labels, value) for value in values}

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, LABELS, registry=self.registry).labels(*self._labels)


class RequestWatch:
    """Times one request, from its making to `close`."""

    def __init__(self, metrics: ServerMetrics, request: Request) -> None:
        self._metrics = metrics
        self._request = request
        self._tokens = 0
        self._queued: float | None = None
        self._arrival = self._first = self._last = time.monotonic()
        self._reason: FinishReason = "abort"  # unless a delta says otherwise

    def saw(self, delta: Delta) -> None:
        if delta.token_ids:
            now = time.monotonic()
            if self._tokens:
                self._observe("inter_token_latency_seconds", now - self._last)
            else:
                self._begins(delta, now)
            self._last = now
            self._tokens += len(delta.token_ids)
        if delta.finish_reason is not None:
            self._reason = delta.finish_reason
            self._count_error(delta.error_code)

    def close(self) -> None:
        """The request ended, or its client left."""
        self._metrics.counters["request_success"][self._reason].inc()
        self._observe("e2e_request_latency_seconds", time.monotonic() - self._arrival)
        self._observe("request_prompt_tokens", len(self._request.prompt_token_ids))
        self._observe("request_generation_tokens", self._tokens)
        self._observe("request_params_max_tokens", self._request.params.max_tokens or 0)
        if self._queued is not None:
            self._observe_phases(self._queued)

    def _begins(self, delta: Delta, now: float) -> None:
        """The first token has come."""
        self._first, self._queued = now, delta.queue_seconds
        self._observe("time_to_first_token_seconds", now - self._arrival)
        known = delta.num_cached_tokens
        computed = len(self._request.prompt_token_ids) - known
        self._observe("request_prefill_kv_computed_tokens", computed)
        self._metrics.cached.inc(known)
        sources = self._metrics.counters["prompt_tokens_by_source"]
        sources["local_cache_hit"].inc(known)
        sources["local_compute"].inc(computed)

    def _observe_phases(self, queued: float) -> None:
        decode = self._last - self._first
        prefill = max(0.0, self._first - self._arrival - queued)
        self._observe("request_queue_time_seconds", queued)
        self._observe("request_prefill_time_seconds", prefill)
        self._observe("request_decode_time_seconds", decode)
        self._observe("request_inference_time_seconds", prefill + decode)
        if self._tokens > 1:
            self._observe("request_time_per_output_token_seconds", decode / (self._tokens - 1))

    def _count_error(self, code: str | None) -> None:
        rejections = self._metrics.counters["admission_rejections"]
        if code in rejections:
            rejections[code].inc()
        if code == CORRUPTED:
            self._metrics.corrupted.inc()

    def _observe(self, name: str, value: float) -> None:
        self._metrics.histograms[name].observe(value)
