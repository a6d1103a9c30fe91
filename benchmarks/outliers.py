"""Outliers in activations, as large models have them, put into a model without changing it.

A share of the channels that a norm gives gets some factor as large, and the weights that read
them as much smaller. With a power of two, every product is the same to the bit.
vivace-mini has no outliers of its own.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

SHARE = 0.01
_READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}


def inject(folder: Path, out: Path, factor: int, seed: int = 0) -> Path:
    """Write a Llama-shaped checkpoint of one file with outliers to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        shutil.copy(file, out)
    tensors, rng = load_file(folder / "model.safetensors"), np.random.default_rng(seed)
    for name in [name for name in tensors if name.endswith("layernorm.weight")]:
        layer, norm, _ = name.rsplit(".", 2)
        gain = tensors[name]
        chosen = rng.choice(len(gain), max(round(SHARE * len(gain)), 1), replace=False)
        factors = np.ones(len(gain), np.float32)
        factors[chosen] = factor
        tensors[name] = (gain.astype(np.float32) * factors).astype(gain.dtype)
        for reader in _READERS[norm]:
            weight = tensors[f"{layer}.{reader}.weight"]
            divided = weight.astype(np.float32) / factors
            tensors[f"{layer}.{reader}.weight"] = divided.astype(weight.dtype)
    save_file(tensors, out / "model.safetensors", {"format": "pt"})
    return out
