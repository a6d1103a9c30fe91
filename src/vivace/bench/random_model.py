"""Llama-shaped checkpoints with random weights: good for speed, worthless for quality.

python -m vivace.bench.random_model 1.1b FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

BFLOAT16_BYTES = 2
CHUNK_VALUES = 1 << 22
STANDARD_DEVIATION = 0.02


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a Llama-shaped model, named as in config.json."""

    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    tie_word_embeddings: bool
    max_position_embeddings: int = 4096

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads


PRESETS = {
    "tiny": LlamaShape(2, 64, 128, 4, 2, 256, True, 1024),
    "0.35b": LlamaShape(32, 960, 2560, 15, 5, 49152, True),
    "1.1b": LlamaShape(22, 2048, 5632, 32, 4, 32000, False),
}


def write_random_model(folder: Path, shape: LlamaShape, seed: int = 0) -> Path:
    """Write config.json and bfloat16 model.safetensors, a chunk at a time; no tokenizer.

    Norm gains are 1, every other weight is uniform with a standard deviation of 0.02. A folder
    that holds this model already is left as it is.
    """
    config = json.dumps({**_config(shape), "vivace_random_seed": seed}, indent=2)
    config_file = folder / "config.json"
    if config_file.exists() and config_file.read_text() == config:
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with open(folder / "model.safetensors", "wb") as file:
        tensors = dict(tensor_shapes(shape))
        _write_header(file, tensors)
        for name, dimensions in tensors.items():
            _write_values(file, rng, math.prod(dimensions), is_norm="norm" in name)
    config_file.write_text(config)  # last: its presence says that the model is complete
    return folder


def tensor_shapes(shape: LlamaShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each tensor's name and shape, in file order."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries = shape.num_attention_heads * shape.head_dim
    keys = shape.num_key_value_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    for layer in range(shape.num_hidden_layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.self_attn.q_proj.weight", (queries, hidden)
        yield f"{prefix}.self_attn.k_proj.weight", (keys, hidden)
        yield f"{prefix}.self_attn.v_proj.weight", (keys, hidden)
        yield f"{prefix}.self_attn.o_proj.weight", (hidden, queries)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        yield f"{prefix}.mlp.gate_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.up_proj.weight", (inner, hidden)
        yield f"{prefix}.mlp.down_proj.weight", (hidden, inner)
    yield "model.norm.weight", (hidden,)
    if not shape.tie_word_embeddings:
        yield "lm_head.weight", (shape.vocab_size, hidden)


def _config(shape: LlamaShape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **vars(shape),
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _write_header(file: BinaryIO, tensors: dict[str, tuple[int, ...]]) -> None:
    header, end = {}, 0
    for name, dimensions in tensors.items():
        start, end = end, end + BFLOAT16_BYTES * math.prod(dimensions)
        header[name] = {"dtype": "BF16", "shape": dimensions, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def _write_values(file: BinaryIO, rng: np.random.Generator, count: int, is_norm: bool) -> None:
    for start in range(0, count, CHUNK_VALUES):
        size = min(CHUNK_VALUES, count - start)
        values = np.ones(size, np.float32) if is_norm else _uniform(rng, size)
        file.write(values.astype(ml_dtypes.bfloat16).tobytes())


def _uniform(rng: np.random.Generator, size: int) -> NDArray[np.float32]:
    width = np.float32(STANDARD_DEVIATION * math.sqrt(12))
    return np.asarray((rng.random(size, np.float32) - np.float32(0.5)) * width, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a checkpoint with random weights.")
    parser.add_argument("preset", choices=PRESETS)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(write_random_model(arguments.folder, PRESETS[arguments.preset]))


if __name__ == "__main__":
    main()
