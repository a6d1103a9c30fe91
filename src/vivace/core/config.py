"""What a user can set about an engine; each field has one default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, get_args

from vivace.core.errors import UsageError
from vivace.core.kinds import is_integer, is_number
from vivace.core.sight import Sight

BackendChoice = Literal["auto", "cpu", "reference", "torch"]
DTypeChoice = Literal["auto", "float32", "bfloat16"]
KVCacheDType = Literal["auto", "bfloat16", "int8", "int4"]
WeightBits = Literal[4, 8]

_CHOICES: dict[str, tuple[str, ...]] = {
    "backend": get_args(BackendChoice),
    "dtype": get_args(DTypeChoice),
    "kv_cache_dtype": get_args(KVCacheDType),
}
_COUNTS = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_prefill_beside_decodes",
    "max_loras",
    "max_lora_rank",
)
_OPTIONAL_COUNTS = (
    "max_model_len",
    "threads",
    "memory_bytes",
    "kv_memory_bytes",
    "kv_host_bytes",
    "kv_disk_bytes",
    "max_prefill_chunk",
    "max_queued_requests",
    "max_queued_tokens",
)
_TIMES = ("max_wait_seconds", "target_itl_ms", "target_ttft_ms")


@dataclass(frozen=True)
class EngineConfig:
    """Attributes:
    model: a folder or a hub id; None is the bundled vivace-mini.
    backend: "cpu", "reference" or "torch"; "auto" is cpu, or reference where it was not built.
    dtype: "auto" is bfloat16 on the cpu backend (float32 where the checkpoint is float32).
    quantize: what weights are rounded to at loading: a scheme such as int8 or int4-g128, and
        exceptions such as head=int4-g128 or layers.0.*=none; None keeps them as they are.
    weight_bits: which precision of a checkpoint that nests 4 bits in 8; None is 8.
    packed_cache: keep packed weights in the user's cache folder, so that the next start is quick.
    max_model_len: longest prompt plus answer; None is the model's own limit, cut to fit memory.
    threads: compute threads of the cpu backend; None is the cores this process may use.
    memory_bytes: memory for weights, adapters and KV pages together; None is what is free.
    kv_memory_bytes: memory for KV pages; None is a share of what is free.
    kv_host_bytes: memory beside that for prefixes which KV pages have no room for; None is none.
    kv_disk_bytes: what files of such prefixes may take, found again by the next start; None is
        none. What comes from disk passes through kv_host_bytes.
    kv_disk_folder: where these files are; None is a folder in the user's cache. Engines that share
        one bound it together only roughly.
    kv_cache_dtype: what KV pages are kept in; "auto" is the backend's dtype. int8 and int4 keep
        the last block, of at most 32 tokens, in that.
    kv_eviction: what long contexts keep in KV pages: none keeps all, sinks:WINDOW the first 4
        tokens and the last WINDOW, sinks:WINDOW:SINKS another number of first ones; max_model_len
        may then be longer than the model was trained for. snap:TOKENS keeps so many of a prompt,
        those that its end looks at. Requests may ask for their own.
    max_num_seqs: requests running at once.
    max_num_batched_tokens: token budget of one step.
    max_prefill_chunk: tokens of one prompt computed in one step; None is bounded by the step.
    max_prefill_beside_decodes: tokens of prompts computed in a step in which others decode, of no
        worse priority: fewer keep gaps between tokens short, more bring first tokens sooner.
    max_wait_seconds: who waited that long for its turn is served in order of arrival, before any
        priority, deadline or share; None is no bound.
    tenant_weights: shares of the engine where tenants compete, such as alice=2,bob=0.5; whoever is
        not named has 1.
    max_queued_requests: further requests are refused while so many wait; None is no limit.
    max_queued_tokens: requests are refused whose tokens would make those that wait more than this;
        None is no limit.
    target_itl_ms: milliseconds between two tokens of a stream: as many requests run as that
        allows, and prompts beside them get what the steps measured so far say is left, in place
        of max_prefill_beside_decodes.
    target_ttft_ms: milliseconds to a first token. Alone, it gives prompts no more of a step than
        they need for it, so that running streams are held up least; beside
        target_itl_ms the running streams come first.
    enable_prefix_caching: share pages of equal prefixes.
    seed: the base of the random streams of requests that bring no seed.
    enable_lora: make room for LoRA adapters.
    max_loras: adapters that can be loaded at once.
    max_lora_rank: their highest rank.
    lora_modules: adapters to load at the start, such as sql=/path/to/sql,chat=/path/to/chat.

    Raises:
        UsageError: a choice is unknown, a count is no integer of at least 1, a time or a weight is
            no number above 0, kv_eviction is of another form or does not go with kv_cache_dtype,
            or kv_disk_bytes or lora_modules is given alone.
    """

    model: str | None = None
    backend: BackendChoice = "auto"
    dtype: DTypeChoice = "auto"
    quantize: str | None = None
    weight_bits: WeightBits | None = None
    packed_cache: bool = True
    max_model_len: int | None = None
    threads: int | None = None
    memory_bytes: int | None = None
    kv_memory_bytes: int | None = None
    kv_host_bytes: int | None = None
    kv_disk_bytes: int | None = None
    kv_disk_folder: str | None = None
    kv_cache_dtype: KVCacheDType = "auto"
    kv_eviction: str = "none"
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_prefill_chunk: int | None = None
    max_prefill_beside_decodes: int = 128
    max_wait_seconds: float | None = 300.0
    tenant_weights: str | None = None
    max_queued_requests: int | None = None
    max_queued_tokens: int | None = None
    target_itl_ms: float | None = None
    target_ttft_ms: float | None = None
    enable_prefix_caching: bool = True
    seed: int = 0
    enable_lora: bool = False
    max_loras: int = 4
    max_lora_rank: int = 16
    lora_modules: str | None = None

    def __post_init__(self) -> None:
        for option, choices in _CHOICES.items():
            if getattr(self, option) not in choices:
                raise UsageError(f"{option} must be one of {', '.join(choices)}.")
        if self.weight_bits not in (None, *get_args(WeightBits)):
            raise UsageError(f"weight_bits must be 4 or 8, got {self.weight_bits!r}.")
        for option in (*_COUNTS, *_OPTIONAL_COUNTS):
            value: Any = getattr(self, option)
            if value is None and option in _OPTIONAL_COUNTS:
                continue
            if not is_integer(value) or value < 1:
                raise UsageError(f"{option} must be an integer of at least 1, got {value!r}.")
        for option in _TIMES:
            time: Any = getattr(self, option)
            if time is not None and not (is_number(time) and 0 < time < inf):
                raise UsageError(f"{option} must be a number above 0, got {time!r}.")
        if self.kv_disk_bytes is not None and self.kv_host_bytes is None:
            raise UsageError("kv_disk_bytes needs kv_host_bytes too: pages pass through it.")
        if parse_modules(self.lora_modules) and not self.enable_lora:
            raise UsageError("lora_modules needs enable_lora too.")
        parse_weights(self.tenant_weights)
        if self.sight.kept is not None and self.kv_cache_dtype in ("int8", "int4"):
            raise UsageError(
                f"kv_eviction {self.kv_eviction} needs KV pages that are not packed: leave "
                "kv_cache_dtype at auto."
            )

    @property
    def sight(self) -> Sight:
        """What rows of a request see that asks for nothing else."""
        return Sight.parse(self.kv_eviction)


def modules_text(paths: Mapping[str, str]) -> str | None:
    """What `parse_modules` reads as these."""
    return ",".join(f"{name}={path}" for name, path in paths.items()) or None


def check_module(name: str, path: str) -> None:
    """Raises UsageError for what `parse_modules` could not read."""
    if not name or not path or {",", "="} & set(name) or "," in path:
        raise UsageError(
            f"An adapter needs a name without = and a path, both without commas, not {name!r} and "
            f"{path!r}."
        )


def parse_modules(text: str | None, option: str = "lora_modules") -> dict[str, str]:
    """Paths by name from "sql=/path/to/sql,chat=/path/to/chat"; None is none.

    Raises:
        UsageError: a part is not a name and a path, or a name comes twice.
    """
    paths: dict[str, str] = {}
    for part in text.split(",") if text else []:
        name, _, path = (word.strip() for word in part.partition("="))
        if not name or not path or name in paths:
            raise UsageError(
                f"{option} must be like sql=PATH,chat=PATH, each name once; {part!r} is not."
            )
        paths[name] = path
    return paths


def parse_weights(text: str | None) -> dict[str, float]:
    """Weights by name from "alice=2,bob=0.5"; None is none.

    Raises:
        UsageError: a part is not a name and a number above 0, or a name comes twice.
    """
    weights: dict[str, float] = {}
    for part in text.split(",") if text else []:
        name, _, number = (word.strip() for word in part.rpartition("="))
        weight = _positive(number)
        if not name or weight is None or name in weights:
            raise UsageError(
                f"tenant_weights must be like alice=2,bob=0.5, each name once; {part!r} is not."
            )
        weights[name] = weight
    return weights


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < inf else None
