"""A tiny random Llama checkpoint without a tokenizer, written to disk as a user's would be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from vivace.models.loader import model_spec, tensor_shapes

CONFIG = {
    "model_type": "llama",
    "vocab_size": 199,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "eos_token_id": 0,
}


def write_tiny_llama(folder: Path, seed: int = 0, **overrides: object) -> Path:
    """Weights are large enough for logits to differ clearly from token to token."""
    config = {**CONFIG, **overrides}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    rng = np.random.default_rng(seed)
    tensors = {
        name: rng.normal(0, 0.2, shape).astype(np.float32)
        for name, shape in sorted(tensor_shapes(model_spec(config, None)).items())
    }
    save_file(tensors, folder / "model.safetensors")
    return folder
