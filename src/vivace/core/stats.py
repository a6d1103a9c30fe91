"""What an engine says of itself: facts fixed at load, and counters that grow."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from functools import partial

from vivace.core.request import Pooling
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, Sight

# Upper ends of the ranges that steps are counted in, in tokens; vLLM's.
STEP_SIZES = tuple(map(float, (1, 8, *(2**power for power in range(4, 15)))))
# And those of the ages of KV pages, in seconds.
PAGE_SECONDS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0),
)


@dataclass(frozen=True)
class Histogram:
    """How many values fell into each range.

    Attributes:
        bounds: upper ends of the ranges.
        counts: values of each range and, last, of those above all.
        total: the sum of all values.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        return cls(bounds, (0,) * (len(bounds) + 1))


class Tally:
    """A histogram that grows."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def histogram(self) -> Histogram:
        """As it stands now."""
        return Histogram(self._bounds, tuple(self._counts), self._total)


@dataclass(frozen=True)
class AdapterInfo:
    """A LoRA adapter that takes requests.

    Attributes:
        path: as it was given.
        rank: the highest of its parts.
    """

    name: str
    path: str
    rank: int


@dataclass(frozen=True)
class EngineInfo:
    """Facts fixed at load.

    Attributes:
        model_name: as given by the user ("vivace-mini" for the bundled model).
        folder: the checkpoint's folder on this machine.
        default_params: sampling defaults from generation_config.json.
        quantization: what weights were rounded to, in the words of `EngineConfig.quantize`.
        pooling: how the model's embeddings are made, unless a request says it.
        max_loras: adapters that there is room for.
        adapters: those loaded at the start.
        memory_bytes: what weights, adapters and KV pages may take together, in all tiers of memory.
        sight: what rows of a request see that asks for nothing else.
        kv_cache_dtype: what KV pages are kept in, in the words of `EngineConfig`.
        context_len: the most positions that a row may see; None is max_model_len.
    """

    model_name: str
    folder: str
    family: str
    backend: str
    dtype: str
    vocab_size: int
    max_model_len: int
    eos_token_ids: tuple[int, ...]
    num_pages: int
    page_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int
    threads: int
    load_seconds: float
    has_tokenizer: bool = True
    default_params: SamplingParams = field(default_factory=SamplingParams)
    quantization: str | None = None
    pooling: Pooling = "mean"
    max_loras: int = 0
    adapters: tuple[AdapterInfo, ...] = ()
    memory_bytes: int = 0
    sight: Sight = ALL
    kv_cache_dtype: str = "auto"
    context_len: int | None = None

    def longest(self, sight: Sight) -> int:
        """Tokens of the longest sequence whose rows see so far."""
        if self.context_len is None or (sight.reach or self.max_model_len) <= self.context_len:
            return self.max_model_len
        return self.context_len

    @property
    def precision(self) -> str:
        """What is computed in, in one word or two: "bfloat16", "int4-g128 (bfloat16)"."""
        return self.dtype if self.quantization is None else f"{self.quantization} ({self.dtype})"


@dataclass(frozen=True)
class TierStats:
    """The tiers below the KV pages: gauges, and counts of pages since start.

    Attributes:
        host_bytes: held in host memory.
        disk_bytes: held in files.
        saved: pages that went from the device to host memory.
        restored: pages that came back to the device.
        fetched: pages that came from disk to host memory ahead of their use.
        fetched_used: those of them that then went to the device.
        fetched_wasted: those of them that left host memory unused.
        lost: pages that left the last tier, or could not be written.
        broken: files that were damaged, and are gone.
    """

    host_bytes: int = 0
    disk_bytes: int = 0
    saved: int = 0
    restored: int = 0
    fetched: int = 0
    fetched_used: int = 0
    fetched_wasted: int = 0
    lost: int = 0
    broken: int = 0


@dataclass(frozen=True)
class PrefixStats:
    """A prefix on the device that was found again.

    Attributes:
        num_tokens: its length.
        hits: sequences that found it, and nothing longer.
        tokens_saved: tokens that they did not compute again.
        idle_seconds: since one last did.
    """

    num_tokens: int
    hits: int
    tokens_saved: int
    idle_seconds: float


@dataclass(frozen=True)
class PageAges:
    """Seconds, over the pages that left the device or were found there again.

    Attributes:
        lifetime: from being taken to being evicted.
        idle: from the last use to being evicted.
        reuse_gap: between two uses.
    """

    lifetime: Histogram = field(default_factory=partial(Histogram.empty, PAGE_SECONDS))
    idle: Histogram = field(default_factory=partial(Histogram.empty, PAGE_SECONDS))
    reuse_gap: Histogram = field(default_factory=partial(Histogram.empty, PAGE_SECONDS))


@dataclass(frozen=True)
class EngineStats:
    """Gauges, and counters since start. Token counts leave out what is recomputed.

    Attributes:
        prefix_host_tokens: of `prefix_hit_tokens`, those that came up from host memory.
        prefix_disk_tokens: and from disk.
        cpu_seconds: processor time of the engine's process, in all its threads.
        step_sizes: tokens computed in a step.
        pins: ids of pinned prefixes.
        pages_pinned: pages that these hold.
        running_adapters: names of the adapters of requests that run.
        waiting_adapters: likewise.
        restarts: how often an engine that had died or hung was started again.
    """

    running: int = 0
    waiting: int = 0
    pages_used: int = 0
    pages_total: int = 0
    prefix_query_tokens: int = 0
    prefix_hit_tokens: int = 0
    prefix_host_tokens: int = 0
    prefix_disk_tokens: int = 0
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    native_seconds: float = 0.0
    cpu_seconds: float = 0.0
    step_sizes: Histogram = field(default_factory=partial(Histogram.empty, STEP_SIZES))
    page_ages: PageAges = field(default_factory=PageAges)
    pins: tuple[str, ...] = ()
    pages_pinned: int = 0
    tiers: TierStats = field(default_factory=TierStats)
    prefixes: tuple[PrefixStats, ...] = ()
    prefetched: int = 0
    prefetched_used: int = 0
    prefetched_wasted: int = 0
    running_adapters: tuple[str, ...] = ()
    waiting_adapters: tuple[str, ...] = ()
    restarts: int = 0
