"""`vivace inspect`: what a checkpoint is, and what running it takes on this machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace.cli.console import notice, print_json
from vivace.cli.flags import JsonFlag, flags
from vivace.core.config import EngineConfig

if TYPE_CHECKING:
    from vivace.formats.checkpoint import Checkpoint
    from vivace.models.spec import ModelSpec

Context = Annotated[
    int | None,
    typer.Option("--context", min=1, help="Tokens a sequence; left out, the model's limit."),
]
Concurrency = Annotated[int, typer.Option("--concurrency", min=1, help="Sequences at once.")]


@flags
def inspect(
    config: EngineConfig,
    context: Context = None,
    concurrency: Concurrency = 1,
    json: JsonFlag = False,
) -> None:
    """Say what a checkpoint is, and the memory it takes on this machine; nothing is loaded."""
    from vivace.formats.checkpoint import open_checkpoint
    from vivace.formats.hub import resolve_model
    from vivace.models.loader import model_spec

    checkpoint = open_checkpoint(resolve_model(config.model, notice))
    spec = model_spec(checkpoint.config, config.max_model_len)
    facts = _facts(checkpoint, spec)
    plan = _plan(config, checkpoint, spec, (context or spec.max_model_len, concurrency))
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


def _plan(
    config: EngineConfig, checkpoint: Checkpoint, spec: ModelSpec, wanted: tuple[int, int]
) -> dict[str, Any]:
    """What `wanted` (context, concurrency) takes, beside what is free."""
    from vivace.cache.pool import PageDemand, blocks_per_sequence, page_bytes
    from vivace.engine.backends import choose_backend
    from vivace.engine.plan import weight_bytes
    from vivace.hardware.machine import detect

    context, concurrency = wanted
    machine = detect()
    backend = choose_backend(config, checkpoint.dtype, config.threads or machine.cores, notice)
    demand = PageDemand(context, concurrency, config.max_num_batched_tokens)
    sizes = page_bytes(backend, spec.kv_groups)
    kv_bytes = concurrency * sum(
        blocks_per_sequence(group, demand) * size
        for group, size in zip(spec.kv_groups, sizes, strict=True)
    )
    weights = weight_bytes(checkpoint, backend.dtype)
    return {
        "backend": backend.name,
        "dtype": backend.dtype,
        "context": context,
        "concurrency": concurrency,
        "weight_bytes": weights,
        "kv_bytes": kv_bytes,
        "total_bytes": weights + kv_bytes,
        "available_bytes": machine.memory_available,
        "fits": weights + kv_bytes <= machine.memory_available,
    }


def _readable(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    return f"{value:,}" if isinstance(value, int) else str(value)
