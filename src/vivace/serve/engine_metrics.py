"""What engine and machine count themselves, as Prometheus metrics; read when somebody asks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from vivace.core.stats import EngineInfo, EngineStats, Histogram

LABELS = ("model_name", "engine")
ENGINE = "0"  # there is one engine per server as yet
CPU_SECONDS, CPU_TEXT = "vivace:cpu_seconds", "Processor time, of all threads."


class EngineMetrics(Collector):
    """Attributes:
    stats: of now; None where the engine cannot be asked.
    """

    def __init__(self, labels: tuple[str, str], info: EngineInfo | None) -> None:
        self._labels = labels
        self._info = info
        self.stats: EngineStats | None = None

    def collect(self) -> Iterator[Metric]:
        if self._info is not None:
            yield self._cache_config(self._info)
        if self.stats is None:
            return
        for name, text, gauge in _gauges(self.stats):
            family = GaugeMetricFamily(name, text, labels=LABELS)
            family.add_metric(self._labels, gauge)
            yield family
        for name, text, count in _counters(self.stats):
            counter = CounterMetricFamily(name, text, labels=LABELS)
            counter.add_metric(self._labels, count)
            yield counter
        if self._info is not None and self._info.max_loras:
            yield self._adapters(self.stats, self._info.max_loras)
        for name, text, label, counts in _labelled(self.stats):
            yield self._counted(name, text, label, counts)
        for name, text, histogram in _histograms(self.stats):
            yield self._histogram(name, text, histogram)
        yield self._waiting(self.stats)

    def _cache_config(self, info: EngineInfo) -> Metric:
        facts = {
            "block_size": str(info.page_tokens),
            "num_gpu_blocks": str(info.num_pages),  # whatever the device is
            "cache_dtype": info.dtype if info.kv_cache_dtype == "auto" else info.kv_cache_dtype,
            "kv_eviction": str(info.sight),
        }
        family = GaugeMetricFamily(
            "vllm:cache_config_info", "Facts of the KV pages.", labels=(*LABELS, *facts)
        )
        family.add_metric((*self._labels, *facts.values()), 1)
        return family

    def _adapters(self, stats: EngineStats, max_loras: int) -> Metric:
        """As vLLM has it: names are labels, the value is the time."""
        names = {
            "max_lora": str(max_loras),
            "running_lora_adapters": ",".join(stats.running_adapters),
            "waiting_lora_adapters": ",".join(stats.waiting_adapters),
        }
        family = GaugeMetricFamily(
            "vllm:lora_requests_info", "Adapters of requests.", labels=(*LABELS, *names)
        )
        family.add_metric((*self._labels, *names.values()), time.time())
        return family

    def _waiting(self, stats: EngineStats) -> Metric:
        family = GaugeMetricFamily(
            "vllm:num_requests_waiting_by_reason",
            "Requests that wait: for a seat or pages, or to be let into the queue.",
            labels=(*LABELS, "reason"),
        )
        family.add_metric((*self._labels, "capacity"), stats.waiting)
        family.add_metric((*self._labels, "deferred"), 0)
        return family

    def _counted(self, name: str, text: str, label: str, counts: Mapping[str, float]) -> Metric:
        family = CounterMetricFamily(name, text, labels=(*LABELS, label))
        for value, count in counts.items():
            family.add_metric((*self._labels, value), count)
        return family

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        family = HistogramMetricFamily(name, text, labels=LABELS)
        bounds = [*map(str, histogram.bounds), "+Inf"]
        counts = [float(count) for count in accumulate(histogram.counts)]
        buckets = list(zip(bounds, counts, strict=True))
        family.add_metric(self._labels, buckets, sum_value=histogram.total)
        return family


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


def _counters(stats: EngineStats) -> list[tuple[str, str, float]]:
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
        (
            "vllm:external_prefix_cache_queries",
            "Prompt tokens that the device did not have, looked up in the tiers below.",
            stats.prefix_query_tokens - _cached(stats)["device"],
        ),
        (
            "vllm:external_prefix_cache_hits",
            "Prompt tokens found in the tiers below.",
            stats.prefix_host_tokens + stats.prefix_disk_tokens,
        ),
        ("vllm:num_preemptions", "Times that a request had to give way.", stats.preemptions),
        ("vivace:engine_restarts", "Engines that died or hung and were replaced.", stats.restarts),
        ("vivace:steps", "Steps of the engine.", stats.steps),
        ("vivace:step_seconds", "Seconds that these took.", stats.step_seconds),
        ("vivace:native_seconds", "Of these, seconds in the backend.", stats.native_seconds),
        ("vivace:prefetched_tokens", "Tokens computed by prefetches.", stats.prefetched),
        ("vivace:prefetched_tokens_used", "Of these, found by a request.", stats.prefetched_used),
        (
            "vivace:prefetched_tokens_wasted",
            "Of these, gone from the device before a request found them.",
            stats.prefetched_wasted,
        ),
        ("vivace:kv_pages_saved", "Pages gone to host memory.", tiers.saved),
        ("vivace:kv_pages_restored", "Pages come back to the device.", tiers.restored),
        ("vivace:kv_pages_fetched", "Pages read from disk ahead.", tiers.fetched),
        ("vivace:kv_pages_fetched_used", "Pages read ahead and used.", tiers.fetched_used),
        ("vivace:kv_pages_fetched_wasted", "Pages read in vain.", tiers.fetched_wasted),
        ("vivace:kv_pages_lost", "Pages gone from the last tier.", tiers.lost),
        ("vivace:kv_files_broken", "Damaged files of pages.", tiers.broken),
    ]


def _labelled(stats: EngineStats) -> list[tuple[str, str, str, dict[str, float]]]:
    """Name, text, label, and the counts by its values."""
    return [
        (
            "vllm:prompt_tokens_cached_by_source",
            "Prompt tokens found in a cache, by where they were.",
            "source",
            _cached(stats),
        ),
        (CPU_SECONDS, CPU_TEXT, "process", {"engine": stats.cpu_seconds}),
    ]


def _cached(stats: EngineStats) -> dict[str, float]:
    host, disk = stats.prefix_host_tokens, stats.prefix_disk_tokens
    return {"device": stats.prefix_hit_tokens - host - disk, "host": host, "disk": disk}


def _histograms(stats: EngineStats) -> list[tuple[str, str, Histogram]]:
    ages = stats.page_ages
    return [
        ("vllm:iteration_tokens_total", "Tokens computed in a step.", stats.step_sizes),
        ("vllm:kv_block_lifetime_seconds", "KV pages, until they were evicted.", ages.lifetime),
        (
            "vllm:kv_block_idle_before_evict_seconds",
            "KV pages, from their last use until they were evicted.",
            ages.idle,
        ),
        (
            "vllm:kv_block_reuse_gap_seconds",
            "KV pages, from one use until they were found again.",
            ages.reuse_gap,
        ),
    ]
