"""Tiny checkpoints of several families, and text of random tokens to calibrate on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.engine.tiny import write_tiny_llama
from vivace.backends.reference import ReferenceBackend
from vivace.optimize.calibrate import TokenIds
from vivace.optimize.quantize.run import Job

SIZES = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "every head has its own values": {"num_key_value_heads": 4},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 4},
    "gemma2": {"model_type": "gemma2", "num_key_value_heads": 4, "query_pre_attn_scalar": 16},
    "phi3": {"model_type": "phi3", "pad_token_id": 0},
    "olmo2": {"model_type": "olmo2"},
}


def write_model(folder: Path, family: str = "llama", **overrides: Any) -> Path:
    return write_tiny_llama(folder, **{**SIZES, **FAMILIES[family], **overrides})


def runs(count: int = 4, length: int = 24) -> tuple[TokenIds, ...]:
    tokens = np.random.default_rng(2).integers(1, 199, (count, length))
    return tuple(row.astype(np.int32) for row in tokens)


def job(folder: Path, out: Path, scheme: str, method: str) -> Job:
    return Job("tiny", folder, out, scheme, method, ReferenceBackend(), runs())
