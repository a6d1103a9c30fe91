"""What an engine will hold in memory, decided before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from vivace.backends.protocol import Backend, BatchLimits, DTypeName
from vivace.cache.pool import (
    PageDemand,
    PagePlan,
    blocks_held,
    longest_that_fits,
    page_bytes,
    plan_pages,
    shared_page_tokens,
)
from vivace.core.config import EngineConfig, KVCacheDType
from vivace.core.errors import CapacityError, UsageError
from vivace.core.sight import ALL, Sight
from vivace.formats.kv_format import KV_FORMATS
from vivace.formats.qtensor import Scheme
from vivace.models.adapters import adapter_values
from vivace.models.build import compress_kv
from vivace.models.loader import role_shapes
from vivace.models.spec import LayerSpec, ModelSpec

_VALUE_BYTES: dict[DTypeName, int] = {"float32": 4, "bfloat16": 2}
AS_FLOATS: Mapping[str, Scheme] = MappingProxyType({})
_RANK_STEP = 32  # backends pack columns in panels of so many
KV_SHARE = 0.5  # of the memory that is free once the weights are loaded
LOGIT_ROWS = 64  # rows of logits computed at once when every row is wanted
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class MemoryPlan:
    """Attributes:
    max_model_len: the longest sequence.
    weight_bytes: what the weights take on the backend.
    step_bytes: what the values of a step take.
    pages: KV pages per group.
    adapter_bytes: what adapters may take.
    """

    max_model_len: int
    weight_bytes: int
    step_bytes: int
    pages: PagePlan
    adapter_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        parts = (self.weight_bytes, self.adapter_bytes, self.step_bytes, self.pages.total_bytes)
        return sum(parts)


def plan_memory(
    config: EngineConfig,
    spec: ModelSpec,
    backend: Backend,
    available: int,
    schemes: Mapping[str, Scheme] = AS_FLOATS,
) -> MemoryPlan:
    """Fit weights, a step and KV pages into `available` bytes, or memory_bytes where that is less,
    without what kv_host_bytes sets aside.

    Args:
        spec: the model at the length asked for, or at its own longest.
        schemes: of the roles that are not kept in the backend's dtype.

    Raises:
        CapacityError: the weights, a step, the KV memory or one sequence of the length asked for do
            not fit.
    """
    if config.memory_bytes is not None:
        available = min(available, config.memory_bytes)
    available -= config.kv_host_bytes or 0
    weights = weight_bytes(spec, backend.dtype, schemes)
    adapters = adapter_bytes(config, spec, backend.dtype)
    of_step = step_bytes(spec, batch_limits(config))
    fixed = weights + adapters + of_step
    if fixed >= available:
        raise CapacityError(
            f"The weights need {_gib(weights + adapters)} and a step {_gib(of_step)}, but only "
            f"{_gib(available)} of memory are free; choose a smaller model or dtype, or lower "
            "max_num_batched_tokens."
        )
    budget = config.kv_memory_bytes
    if budget is None:
        budget = int(KV_SHARE * (available - fixed))
    sizes = page_bytes(backend, spec.kv_groups)
    demand = PageDemand(
        spec.max_model_len,
        config.max_num_seqs,
        config.max_num_batched_tokens,
        shared_page_tokens(spec.kv_groups),
        config.sight,
    )
    if config.max_model_len is None:
        fits = longest_that_fits(spec.kv_groups, sizes, demand, budget)
        demand = replace(demand, max_model_len=max(fits, 1))
    pages = plan_pages(spec.kv_groups, sizes, demand, budget)
    plan = MemoryPlan(demand.max_model_len, weights, of_step, pages, adapters)
    if plan.total_bytes > available:
        raise CapacityError(
            f"Weights, a step and KV pages need {_gib(plan.total_bytes)}, but only "
            f"{_gib(available)} of memory are free; lower kv_memory_bytes."
        )
    return plan


def batch_limits(config: EngineConfig) -> BatchLimits:
    """The largest step that a configuration allows. It has a token of every running sequence."""
    sequences = min(config.max_num_seqs, config.max_num_batched_tokens)
    return BatchLimits(
        max_tokens=max(config.max_num_batched_tokens, LOGIT_ROWS),
        max_sequences=sequences,
        max_logit_rows=sequences + LOGIT_ROWS,
    )


def step_bytes(spec: ModelSpec, limits: BatchLimits) -> int:
    """What the values of a step take at most, all of them float32: the logits, and what ops leave
    to each other, twice: logits and hidden states have programs of their own."""
    per_token = max(_values_at_once(spec, layer) for layer in spec.layers)
    values = limits.max_logit_rows * spec.vocab_size + 2 * limits.max_tokens * per_token
    return _FLOAT_BYTES * values


def _values_at_once(spec: ModelSpec, layer: LayerSpec) -> int:
    """Of a token, at most: the hidden state, and what an op reads and writes beside it. Queries
    come twice, as they meet what is recent and as they meet sinks."""
    attention = layer.attention
    queries = attention.num_heads * attention.head_dim
    qkv = queries + 2 * attention.num_kv_heads * attention.head_dim
    widest = max(spec.hidden_size, qkv, 2 * queries, layer.mlp.intermediate_size)
    return spec.hidden_size + 2 * widest


def with_kv_dtype(spec: ModelSpec, choice: KVCacheDType, dtype: DTypeName) -> ModelSpec:
    """The model with its KV pages kept as asked for, on a backend of `dtype`.

    Raises:
        UsageError: bfloat16 pages beside float32 sums.
    """
    if choice in KV_FORMATS:
        return compress_kv(spec, KV_FORMATS[choice])
    if choice not in ("auto", dtype):
        raise UsageError(f"KV pages in {choice} need dtype {choice}: the dtype here is {dtype}.")
    return spec


def kv_bytes_per_sequence(
    spec: ModelSpec, backend: Backend, num_tokens: int, sight: Sight = ALL
) -> int:
    """KV pages that one sequence of that many tokens, whose rows see `sight`, holds while it
    decodes."""
    groups = spec.kv_groups
    demand = PageDemand(num_tokens, 1, 1, shared_page_tokens(groups), sight)
    sizes = zip(groups, page_bytes(backend, groups), strict=True)
    return sum(blocks_held(group, demand) * size for group, size in sizes)


def adapter_bytes(config: EngineConfig, spec: ModelSpec, dtype: DTypeName) -> int:
    """What as many adapters as there is room for take at most."""
    if not config.enable_lora:
        return 0
    rank = -(-config.max_lora_rank // _RANK_STEP) * _RANK_STEP
    return config.max_loras * adapter_values(spec, rank) * _VALUE_BYTES[dtype]


def weight_bytes(
    spec: ModelSpec, dtype: DTypeName, schemes: Mapping[str, Scheme] = AS_FLOATS
) -> int:
    """What a decoder's weights take, in a backend's dtype but for the roles that have a scheme.

    Tied embeddings count twice: as rows to look up, and packed for the head.
    """

    def size(role: str, shape: tuple[int, ...]) -> int:
        if role in schemes:
            return schemes[role].matrix_bytes(*shape)
        return math.prod(shape) * _VALUE_BYTES[dtype]

    return sum(size(role, shape) for role, shapes in role_shapes(spec).items() for shape in shapes)


def weights_held(spec: ModelSpec) -> int:
    """How many weights those bytes hold; a tied table counts twice here too."""
    return sum(math.prod(shape) for shapes in role_shapes(spec).values() for shape in shapes)


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f} GiB"
