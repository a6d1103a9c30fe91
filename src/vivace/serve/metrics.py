"""Prometheus metrics under vLLM's names, so that dashboards made for it work."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vivace.core.request import Delta, FinishReason, Request
from vivace.core.stats import EngineStats

LABELS = ("model_name", "engine")
ENGINE = "0"  # there is one engine per server as yet


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
TOKENS = tuple(factor * 10**power for power in range(6) for factor in (1, 2, 5))

FINISH_REASONS: tuple[FinishReason, ...] = ("stop", "length", "abort", "error", "deadline")


class ServerMetrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self, model_name: str) -> None:
        self.registry = CollectorRegistry()
        self._labels = (model_name, ENGINE)
        self._engine = EngineMetrics(self._labels)
        self.registry.register(self._engine)
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "From arrival to the first token.", FIRST_TOKEN_SECONDS
        )
        self.between_tokens = self._histogram(
            "inter_token_latency_seconds", "Between two tokens.", BETWEEN_TOKENS_SECONDS
        )
        self.whole_request = self._histogram(
            "e2e_request_latency_seconds", "From arrival to the last token.", REQUEST_SECONDS
        )
        self.prompt_length = self._histogram("request_prompt_tokens", "Tokens of a prompt.", TOKENS)
        self.answer_length = self._histogram(
            "request_generation_tokens", "Tokens of an answer.", TOKENS
        )
        finished = Counter(
            "vllm:request_success",
            "Requests that ended.",
            (*LABELS, "finished_reason"),
            registry=self.registry,
        )
        self.finished = {
            reason: finished.labels(*self._labels, reason) for reason in FINISH_REASONS
        }

    def watch(self, request: Request) -> RequestWatch:
        """Measure one request, which arrives now."""
        return RequestWatch(self, len(request.prompt_token_ids))

    def render(self, stats: EngineStats | None) -> bytes:
        """Prometheus text; without the engine's own metrics where it cannot be asked."""
        self._engine.stats = stats
        return generate_latest(self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(f"vllm:{name}", text, LABELS, buckets=buckets, registry=self.registry)
        return family.labels(*self._labels)


class RequestWatch:
    """Times one request, from its making to `close`."""

    def __init__(self, metrics: ServerMetrics, prompt_tokens: int) -> None:
        self._metrics = metrics
        self._prompt_tokens = prompt_tokens
        self._tokens = 0
        self._arrival = self._last = time.monotonic()
        self._reason: FinishReason = "abort"  # unless a delta says otherwise

    def saw(self, delta: Delta) -> None:
        if delta.token_ids:
            now = time.monotonic()
            family = self._metrics.between_tokens if self._tokens else self._metrics.first_token
            family.observe(now - self._last)
            self._last = now
            self._tokens += len(delta.token_ids)
        if delta.finish_reason is not None:
            self._reason = delta.finish_reason

    def close(self) -> None:
        """The request ended, or its client left."""
        metrics = self._metrics
        metrics.finished[self._reason].inc()
        metrics.whole_request.observe(time.monotonic() - self._arrival)
        metrics.prompt_length.observe(self._prompt_tokens)
        metrics.answer_length.observe(self._tokens)


class EngineMetrics(Collector):
    """What the engine counts itself, read when Prometheus asks."""

    def __init__(self, labels: tuple[str, str]) -> None:
        self._labels = labels
        self.stats: EngineStats | None = None

    def collect(self) -> Iterator[Metric]:
        if self.stats is None:
            return
        for name, text, gauge in self._gauges(self.stats):
            family = GaugeMetricFamily(name, text, labels=LABELS)
            family.add_metric(self._labels, gauge)
            yield family
        for name, text, count in self._counters(self.stats):
            counter = CounterMetricFamily(name, text, labels=LABELS)
            counter.add_metric(self._labels, count)
            yield counter

    @staticmethod
    def _gauges(stats: EngineStats) -> list[tuple[str, str, float]]:
        usage = stats.pages_used / stats.pages_total if stats.pages_total else 0.0
        return [
            ("vllm:num_requests_running", "Requests being computed.", stats.running),
            ("vllm:num_requests_waiting", "Requests that wait for their turn.", stats.waiting),
            ("vllm:kv_cache_usage_perc", "Share of the KV pages in use, 0 to 1.", usage),
            ("vivace:kv_pages_pinned", "KV pages of pinned prefixes.", stats.pages_pinned),
            ("vivace:kv_host_bytes", "KV pages in host memory.", stats.tiers.host_bytes),
            ("vivace:kv_disk_bytes", "KV pages in files.", stats.tiers.disk_bytes),
        ]

    @staticmethod
    def _counters(stats: EngineStats) -> list[tuple[str, str, int]]:
        tiers = stats.tiers
        return [
            ("vllm:prompt_tokens", "Prompt tokens taken in.", stats.prompt_tokens),
            ("vllm:generation_tokens", "Tokens generated.", stats.generation_tokens),
            (
                "vllm:prefix_cache_queries",
                "Prompt tokens looked up in the prefix cache.",
                stats.prefix_query_tokens,
            ),
            (
                "vllm:prefix_cache_hits",
                "Prompt tokens found in the prefix cache.",
                stats.prefix_hit_tokens,
            ),
            ("vllm:num_preemptions", "Requests set back for want of pages.", stats.preemptions),
            ("vivace:kv_pages_saved", "Pages gone to host memory.", tiers.saved),
            ("vivace:kv_pages_restored", "Pages come back to the device.", tiers.restored),
            ("vivace:kv_pages_fetched", "Pages read from disk ahead.", tiers.fetched),
            ("vivace:kv_pages_fetched_used", "Pages read ahead and used.", tiers.fetched_used),
            ("vivace:kv_pages_fetched_wasted", "Pages read in vain.", tiers.fetched_wasted),
            ("vivace:kv_pages_lost", "Pages gone from the last tier.", tiers.lost),
            ("vivace:kv_files_broken", "Damaged files of pages.", tiers.broken),
        ]
