"""What a process holds at most, from the loading of rounded weights to the first token."""

from __future__ import annotations

from pathlib import Path

import pytest

from vivace.bench.random_model import LlamaShape, write_random_model
from vivace.bench.startup import empty_cache, start_once
from vivace.core.config import EngineConfig
from vivace.engine.plan import weight_bytes
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.policy import PrecisionPolicy
from vivace.models.loader import model_spec, role_schemes

pytest.importorskip("vivace.backends.cpu._native")

# Twice 90 MB in bfloat16: far more than the allowance, were they held beside what is packed.
SHAPE = LlamaShape(6, 1024, 4096, 16, 4, 16384, False)
KV_BYTES = 32 * 2**20
ALLOWANCE = 150 * 10**6  # the interpreter, its libraries and the buffers of a step


@pytest.mark.parametrize("quantize", ["int8,embedding=int8", "int4-g128"])
def test_weights_are_held_once(tmp_path: Path, quantize: str) -> None:
    """While they are packed, and when a later start reads them."""
    folder = write_random_model(tmp_path, SHAPE)
    spec = model_spec(open_checkpoint(folder).config)
    schemes = role_schemes(spec, PrecisionPolicy.parse(quantize))
    weights = weight_bytes(spec, "bfloat16", schemes)
    config = EngineConfig(
        str(folder),
        backend="cpu",
        dtype="bfloat16",
        quantize=quantize,
        threads=2,
        kv_memory_bytes=KV_BYTES,
    )
    with empty_cache() as environment:
        peaks = [start_once(config, 64, environment)["peak_rss_bytes"] for _ in range(2)]
    assert max(peaks) <= 1.1 * (weights + KV_BYTES) + ALLOWANCE
    assert min(peaks) > weights
