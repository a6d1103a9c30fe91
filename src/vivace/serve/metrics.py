"""Prometheus metrics under vLLM's names, so that dashboards made for it work: what the server
itself sees of requests. engine_metrics.py has what the engine counts."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from vivace.core.request import Request
from vivace.core.stats import EngineInfo, EngineStats
from vivace.serve.engine_metrics import ENGINE, LABELS, EngineMetrics
from vivace.serve.tool_counts import ToolCounts
from vivace.serve.watch import CallWatch, FinishedRequest, Listener, RequestWatch


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
TIMES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)
PRIORITIES = 10  # what is beyond, on either side, counts as this

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
    "request_max_num_generation_tokens": ("Tokens of a prompt's longest answer.", TOKENS),
    "request_num_preemptions": ("Times that it had to give way.", TIMES),
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

    Attributes:
        labels: the values of those that all metrics have.
        listeners: are told of each request when it has ended.
        tools: counts answers that were read for calls of tools.
    """

    def __init__(self, model_name: str, info: EngineInfo | None = None) -> None:
        self.registry = CollectorRegistry()
        self.listeners: list[Listener] = []
        self.labels = (model_name, ENGINE)
        self._engine = EngineMetrics(self.labels, info)
        self.registry.register(self._engine)
        self.histograms = {name: self._histogram(name, *told) for name, told in HISTOGRAMS.items()}
        self.counters = {name: self._by_label(name, *told) for name, told in COUNTERS.items()}
        self.tools = ToolCounts(self.labels, self.registry)
        self.cached = self._counter("prompt_tokens_cached", "Prompt tokens found in a cache.")
        self.corrupted = self._counter("corrupted_requests", "Requests whose output was no number.")
        self._queued = Histogram(
            "vivace:request_queue_time_by_priority_seconds",
            "From arrival until it first runs.",
            (*LABELS, "priority"),
            buckets=REQUEST_SECONDS,
            registry=self.registry,
        )

    def watch(self, request: Request) -> RequestWatch:
        """Measure one request, which arrives now."""
        return RequestWatch(self, request)

    def watch_call(self, requests: Sequence[Request]) -> CallWatch:
        """Measure a call, of the same number of choices for each prompt."""
        return CallWatch(self, requests)

    def render(self, stats: EngineStats | None) -> bytes:
        """Prometheus text; without the engine's own metrics where it cannot be asked."""
        self._engine.stats = stats
        return generate_latest(self.registry)

    def began(self, request: Request, seconds: float, known: int) -> None:
        """A first token has come, so long after the request, of whose prompt so much was known."""
        computed = len(request.prompt_token_ids) - known
        self._observe("time_to_first_token_seconds", seconds)
        self._observe("request_prefill_kv_computed_tokens", computed)
        self.cached.inc(known)
        sources = self.counters["prompt_tokens_by_source"]
        sources["local_cache_hit"].inc(known)
        sources["local_compute"].inc(computed)

    def went_on(self, seconds: float) -> None:
        """A further token has come, so long after the one before."""
        self._observe("inter_token_latency_seconds", seconds)

    def answered(self, num_choices: int, longest: int) -> None:
        """A prompt has all its answers."""
        self._observe("request_params_n", num_choices)
        self._observe("request_max_num_generation_tokens", longest)

    def finished(self, one: FinishedRequest) -> None:
        """A request has ended."""
        self.counters["request_success"][one.reason].inc()
        self._observe("e2e_request_latency_seconds", one.e2e)
        self._observe("request_prompt_tokens", len(one.request.prompt_token_ids))
        self._observe("request_generation_tokens", one.num_tokens)
        self._observe("request_params_max_tokens", one.request.params.max_tokens or 0)
        self._observe("request_num_preemptions", one.num_preemptions)
        self._observe_phases(one)
        self._count_error(one.error_code)
        for listener in self.listeners:
            listener(one)

    def _observe_phases(self, one: FinishedRequest) -> None:
        if one.queued is None or one.prefill is None or one.decode is None:
            return
        priority = max(-PRIORITIES, min(one.request.priority, PRIORITIES))
        self._queued.labels(*self.labels, str(priority)).observe(one.queued)
        self._observe("request_queue_time_seconds", one.queued)
        self._observe("request_prefill_time_seconds", one.prefill)
        self._observe("request_decode_time_seconds", one.decode)
        self._observe("request_inference_time_seconds", one.prefill + one.decode)
        if one.num_tokens > 1:
            mean = one.decode / (one.num_tokens - 1)
            self._observe("request_time_per_output_token_seconds", mean)

    def _count_error(self, code: str | None) -> None:
        rejections = self.counters["admission_rejections"]
        if code in rejections:
            rejections[code].inc()
        if code == CORRUPTED:
            self.corrupted.inc()

    def _observe(self, name: str, value: float) -> None:
        self.histograms[name].observe(value)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        family = Histogram(f"vllm:{name}", text, LABELS, buckets=buckets, registry=self.registry)
        return family.labels(*self.labels)

    def _by_label(
        self, name: str, text: str, label: str, values: tuple[str, ...]
    ) -> dict[str, Counter]:
        family = Counter(f"vllm:{name}", text, (*LABELS, label), registry=self.registry)
        return {value: family.labels(*self.labels, value) for value in values}

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"vllm:{name}", text, LABELS, registry=self.registry).labels(*self.labels)
