"""Writes small GGUF files, value by value as the format's description has it."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vivace.formats.gguf.blocks import TYPES

ALIGNMENT = 32
F32 = 0

Tensor = tuple[int, tuple[int, ...], bytes]  # ggml's type, the shape as numpy has it, the data


IDS = {kind.name: type_id for type_id, kind in TYPES.items()}
RNG = np.random.default_rng(11)
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 64,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}


def write_gguf(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
    path.write_bytes(gguf_bytes(metadata, tensors))
    return path


def gguf_bytes(metadata: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bytes:
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    header += b"".join(string(key) + value(item) for key, item in metadata.items())
    data = b""
    for name, (kind, shape, content) in tensors.items():
        dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape[::-1])
        header += string(name) + dimensions + struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % ALIGNMENT)
    return header + bytes(-len(header) % ALIGNMENT) + data


def floats(array: np.ndarray) -> Tensor:
    return F32, array.shape, array.astype("<f4").tobytes()


def quantized(name: str, *shape: int) -> Tensor:
    """Random blocks with scales around 0.1."""
    kind = TYPES[IDS[name]]
    rows = int(np.prod(shape[:-1]))
    raw = RNG.integers(0, 256, (rows, kind.row_bytes(shape[-1])), np.uint8)
    raw.view(kind.block)["d"] = RNG.normal(0, 0.1, raw.view(kind.block).shape)
    return IDS[name], shape, raw.tobytes()


def llama_tensors(**others: Tensor) -> dict[str, Tensor]:
    """All that `LLAMA` needs: a layer in Q4_0, but for `others` by their names in it, and floats
    around it."""
    matrices = {"attn_q": 32, "attn_k": 16, "attn_v": 16, "attn_output": 32}
    matrices |= {"ffn_gate": 64, "ffn_up": 64}
    layer = {
        **{name: quantized("Q4_0", rows, 32) for name, rows in matrices.items()},
        "ffn_down": quantized("Q4_0", 32, 64),
        "attn_norm": floats(np.ones(32)),
        "ffn_norm": floats(np.ones(32)),
        **others,
    }
    return {
        "token_embd.weight": floats(np.ones((5, 32))),
        "output.weight": floats(np.ones((5, 32))),
        "output_norm.weight": floats(np.ones(32)),
        **{f"blk.0.{name}.weight": tensor for name, tensor in layer.items()},
    }


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def value(item: Any) -> bytes:
    """A type and a value: bool, int (uint32), float (float32), str, or a list of one of these."""
    kind, content = _value(item)
    return struct.pack("<I", kind) + content


def _value(item: Any) -> tuple[int, bytes]:
    if isinstance(item, bool):
        return 7, struct.pack("<?", item)
    if isinstance(item, int):
        return 4, struct.pack("<I", item)
    if isinstance(item, float):
        return 6, struct.pack("<f", item)
    if isinstance(item, str):
        return 8, string(item)
    return 9, _array(item)


def _array(items: Sequence[Any]) -> bytes:
    kinds, contents = zip(*map(_value, items), strict=True)
    return struct.pack("<IQ", kinds[0], len(items)) + b"".join(contents)
