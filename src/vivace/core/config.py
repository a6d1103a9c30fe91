"""What a user can set about an engine; each field has one default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DTypeChoice = Literal["auto", "float32", "bfloat16"]


@dataclass(frozen=True)
class EngineConfig:
    """Attributes:
    model: a folder or a hub id; None is the bundled vivace-mini.
    backend: "cpu", "reference" or "torch"; "auto" is cpu, or reference where it was not built.
    dtype: "auto" is bfloat16 on the cpu backend (float32 where the checkpoint is float32).
    max_model_len: longest prompt plus answer; None is the model's own limit, cut to fit memory.
    threads: compute threads; None is the cores this process may use.
    kv_memory_bytes: memory for KV pages; None is a share of what is free.
    max_num_seqs: requests running at once.
    max_num_batched_tokens: token budget of one step.
    max_prefill_chunk: tokens of one prompt computed in one step; None is bounded by the step.
    enable_prefix_caching: share pages of equal prefixes.
    seed: the base of the random streams of requests that bring no seed.
    """

    model: str | None = None
    backend: Literal["auto", "cpu", "reference", "torch"] = "auto"
    dtype: DTypeChoice = "auto"
    max_model_len: int | None = None
    threads: int | None = None
    kv_memory_bytes: int | None = None
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 512
    max_prefill_chunk: int | None = None
    enable_prefix_caching: bool = True
    seed: int = 0
