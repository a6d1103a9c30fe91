"""What an engine says of itself: facts fixed at load, and counters that grow."""

from __future__ import annotations

from dataclasses import dataclass, field

from vivace.core.request import Pooling
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, Sight

# Upper ends of the ranges that steps are counted in, in tokens; vLLM's.
STEP_SIZES = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)


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
class EngineStats:
    """Gauges, and counters since start. Token counts leave out what is recomputed.

    Attributes:
        step_tokens: computed in all steps.
        step_sizes: steps of each range of `STEP_SIZES` and, last, of more tokens.
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
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    native_seconds: float = 0.0
    step_tokens: int = 0
    step_sizes: tuple[int, ...] = (0,) * (len(STEP_SIZES) + 1)
    pins: tuple[str, ...] = ()
    pages_pinned: int = 0
    tiers: TierStats = field(default_factory=TierStats)
    running_adapters: tuple[str, ...] = ()
    waiting_adapters: tuple[str, ...] = ()
    restarts: int = 0
