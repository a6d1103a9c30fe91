"""What LoRA adapters cost: a batch whose rows have none, one for all, or several, turn by turn.

    python benchmarks/adapters.py [--rounds 5] [--short]

Random weights in int8 and random adapters of every linear layer. Decode steps alone are timed.
Prints one JSON object.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from scheduling.command import Command, report
from scheduling.engines import int8_engine

from vivace.bench.random_model import PRESETS, LlamaShape
from vivace.bench.run import random_requests, run_requests
from vivace.engine.core import EngineCore

PROMPT = 32  # tokens


@dataclass(frozen=True)
class Sizes:
    """Attributes:
    batch: rows at once.
    adapters: in a batch, in turn.
    tokens: of an answer.
    """

    preset: str
    rank: int
    batch: int
    adapters: tuple[int, ...]
    tokens: int


FULL = Sizes("0.35b", 16, 8, (0, 1, 4, 8), 64)
SHORT = Sizes("tiny", 4, 4, (0, 1, 2), 8)


def measure(sizes: Sizes, rounds: int) -> dict[str, Any]:
    """Tokens per second by adapters in the batch, and each as a share of that without any."""
    slots, rank = max(sizes.adapters), sizes.rank
    core = int8_engine(sizes.preset, enable_lora=True, max_loras=slots, max_lora_rank=rank)
    with TemporaryDirectory() as folder:
        for number in range(slots):
            core.adapters.load(name(number), write_adapter(Path(folder, str(number)), sizes))
    rng = np.random.default_rng(0)
    rates: dict[int, list[float]] = {count: [] for count in sizes.adapters}
    for number in range(rounds + 1):
        for count in sizes.adapters:
            rate = decode_rate(core, sizes, count, rng)
            if number:  # the first round warms up
                rates[count].append(rate)
    core.close()
    shares = {
        count: median(one / none for one, none in zip(found, rates[0], strict=True))
        for count, found in rates.items()
    }
    report(str(shares))
    return {"rates": rates, "shares": shares}


def decode_rate(core: EngineCore, sizes: Sizes, count: int, rng: np.random.Generator) -> float:
    """Row after row has the next of `count` adapters."""
    requests = random_requests(core, sizes.batch, PROMPT, sizes.tokens, rng)
    if count:
        requests = [replace(one, adapter=name(i % count)) for i, one in enumerate(requests)]
    run = run_requests(core, requests)
    return run.decode_tokens / run.decode_seconds


def name(number: int) -> str:
    return f"adapter-{number}"


def write_adapter(folder: Path, sizes: Sizes) -> str:
    """As PEFT writes them; what its numbers are changes no time."""
    rng = np.random.default_rng(0)
    tensors = {}
    for module, (outputs, inputs) in modules(PRESETS[sizes.preset]).items():
        for part, shape in (("A", (sizes.rank, inputs)), ("B", (outputs, sizes.rank))):
            values = rng.normal(0, 0.01, shape).astype(np.float32)
            tensors[f"base_model.model.{module}.lora_{part}.weight"] = values
    folder.mkdir()
    targets = sorted({module.rpartition(".")[2] for module in modules(PRESETS[sizes.preset])})
    config = {"peft_type": "LORA", "r": sizes.rank, "lora_alpha": 16, "target_modules": targets}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return str(folder)


def modules(shape: LlamaShape) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of every linear layer."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    heads, kept = (
        count * shape.head_dim for count in (shape.num_attention_heads, shape.num_key_value_heads)
    )
    layer = {
        "self_attn.q_proj": (heads, hidden),
        "self_attn.k_proj": (kept, hidden),
        "self_attn.v_proj": (kept, hidden),
        "self_attn.o_proj": (hidden, heads),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    return {
        f"model.layers.{number}.{module}": sizes
        for number in range(shape.num_hidden_layers)
        for module, sizes in layer.items()
    }


if __name__ == "__main__":
    Command(
        about="What LoRA adapters cost.",
        takes="1 minute",
        full=FULL,
        short=SHORT,
        measure=measure,
    ).main()
