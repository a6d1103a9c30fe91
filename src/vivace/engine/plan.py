"""What an engine will hold in memory, decided before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from vivace.backends.protocol import Backend, DTypeName
from vivace.cache.pool import (
    PageDemand,
    PagePlan,
    longest_that_fits,
    page_bytes,
    plan_pages,
)
from vivace.core.config import EngineConfig
from vivace.core.errors import CapacityError
from vivace.formats.checkpoint import Checkpoint
from vivace.models.spec import ModelSpec

_VALUE_BYTES: dict[DTypeName, int] = {"float32": 4, "bfloat16": 2}
KV_SHARE = 0.5  # of the memory that is free once the weights are loaded


@dataclass(frozen=True)
class MemoryPlan:
    """Attributes:
    max_model_len: the longest sequence.
    weight_bytes: what the weights take on the backend.
    pages: KV pages per group.
    """

    max_model_len: int
    weight_bytes: int
    pages: PagePlan

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.pages.total_bytes


def plan_memory(
    config: EngineConfig, spec: ModelSpec, backend: Backend, weight_bytes: int, available: int
) -> MemoryPlan:
    """Fit weights and KV pages into `available` bytes.

    Args:
        spec: the model at the length asked for, or at its own longest.

    Raises:
        CapacityError: the weights, or one sequence of the length asked for, do not fit.
    """
    if weight_bytes >= available:
        raise CapacityError(
            f"The weights need {weight_bytes / 2**30:.1f} GiB, but only "
            f"{available / 2**30:.1f} GiB of memory are free; choose a smaller model or dtype."
        )
    budget = config.kv_memory_bytes or int(KV_SHARE * (available - weight_bytes))
    sizes = page_bytes(backend, spec.kv_groups)
    demand = PageDemand(spec.max_model_len, config.max_num_seqs, config.max_num_batched_tokens)
    if config.max_model_len is None:
        fits = longest_that_fits(spec.kv_groups, sizes, demand, budget)
        demand = replace(demand, max_model_len=max(fits, 1))
    pages = plan_pages(spec.kv_groups, sizes, demand, budget)
    return MemoryPlan(demand.max_model_len, weight_bytes, pages)


def weight_bytes(checkpoint: Checkpoint, dtype: DTypeName) -> int:
    """What a checkpoint's weights take in a backend's dtype."""
    tensors = checkpoint.tensors
    values = sum(math.prod(tensors.shape(name)) for name in tensors)
    return values * _VALUE_BYTES[dtype]
