"""`vivace inspect`: what a checkpoint is, and what running it takes on this machine."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace.cli.console import notice, print_json
from vivace.cli.flags import JsonFlag, flags
from vivace.core.config import EngineConfig
from vivace.core.errors import CapacityError

if TYPE_CHECKING:
    from vivace.formats.checkpoint import Checkpoint
    from vivace.models.spec import ModelSpec

# What serving alone is concerned with.
_NO_MATTER = (
    "threads",
    "packed_cache",
    "max_prefill_chunk",
    "max_prefill_beside_decodes",
    "max_wait_seconds",
    "tenant_weights",
    "max_queued_requests",
    "max_queued_tokens",
    "target_itl_ms",
    "target_ttft_ms",
    "enable_prefix_caching",
    "seed",
)

Context = Annotated[
    int | None,
    typer.Option("--context", min=1, help="Tokens a sequence; left out, what fits of the model's."),
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Sequences at once.")]


@partial(flags, without=_NO_MATTER)
def inspect(
    config: EngineConfig,
    max_model_len: Context = None,
    max_num_seqs: Concurrency = 1,
    json: JsonFlag = False,
) -> None:
    """Say what a checkpoint is, and the memory it takes on this machine; nothing is loaded."""
    from vivace.formats.checkpoint import open_checkpoint
    from vivace.formats.hub import resolve_model
    from vivace.models.loader import model_spec

    config = replace(config, max_model_len=max_model_len, max_num_seqs=max_num_seqs)
    checkpoint = open_checkpoint(resolve_model(config.model, notice), config.weight_bits)
    facts = _facts(checkpoint, model_spec(checkpoint.config))
    spec = model_spec(checkpoint.config, max_model_len, config.sight)
    plan = _plan(config, checkpoint, spec)
    if json:
        print_json({**facts, "memory": plan})
        return
    for name, value in (facts | plan).items():
        print(f"{name.replace('_', ' '):<20}{_readable(name, value)}")


def _facts(checkpoint: Checkpoint, spec: ModelSpec) -> dict[str, Any]:
    tensors = checkpoint.tensors
    return {
        "folder": str(checkpoint.folder),
        "family": spec.family,
        "parameters": sum(math.prod(tensors.shape(name)) for name in tensors),
        "bytes": sum(tensors.nbytes(name) for name in tensors),
        "stored_dtype": checkpoint.dtype,
        "layers": len(spec.layers),
        "hidden_size": spec.hidden_size,
        "vocab_size": spec.vocab_size,
        "max_model_len": spec.max_model_len,
    }


def _plan(config: EngineConfig, checkpoint: Checkpoint, spec: ModelSpec) -> dict[str, Any]:
    """What the engine would hold, beside what is free; or why that does not fit."""
    from vivace.engine.backends import Wanted, choose_backend
    from vivace.engine.plan import (
        kv_bytes_per_sequence,
        plan_memory,
        weight_bytes,
        weights_held,
        with_kv_dtype,
    )
    from vivace.formats.policy import PrecisionPolicy
    from vivace.hardware.machine import detect
    from vivace.models.precision import precision_of

    available = detect().memory_available
    backend = choose_backend(Wanted(config, checkpoint, 1, notice))
    spec = with_kv_dtype(spec, config.kv_cache_dtype, backend.dtype)
    precision = precision_of(spec, checkpoint, PrecisionPolicy.parse(config.quantize))
    size = weight_bytes(spec, backend.dtype, precision.schemes)
    facts: dict[str, Any] = {
        "backend": backend.name,
        "dtype": backend.dtype,
        "context": spec.max_model_len,
        "concurrency": config.max_num_seqs,
        "quantization": precision.describe(config.quantize),
        "weight_bytes": size,
        "bits_per_weight": 8 * size / weights_held(spec),
        "available_bytes": available,
    }
    try:
        plan = plan_memory(config, spec, backend, available, precision.schemes)
    except CapacityError as error:
        return {**facts, "fits": False, "reason": str(error)}
    at_once = plan.pages.num_sequences
    facts |= {
        "context": plan.max_model_len,
        "kv_cache_dtype": config.kv_cache_dtype,
        "kv_sequence_bytes": kv_bytes_per_sequence(spec, backend, plan.max_model_len, config.sight),
        "kv_bytes": plan.pages.total_bytes,
        "step_bytes": plan.step_bytes,
        "total_bytes": plan.total_bytes,
    }
    if at_once < config.max_num_seqs:
        return {**facts, "fits": False, "reason": f"{at_once} sequences fit at once."}
    return {**facts, "fits": True}


def _readable(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value or "none")
