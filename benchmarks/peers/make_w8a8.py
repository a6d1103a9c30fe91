"""A Llama-shaped checkpoint in int8 (per-channel weights, per-token activations) for vLLM.

    python make_w8a8.py MODEL OUTPUT

The layout is that of compressed-tensors; weights are rounded to nearest. Embeddings, norms and the
output head stay bfloat16, as vLLM's own recipes leave them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

QUANTIZATION = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "channel",
                "dynamic": False,
            },
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}


def quantized(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """What the checkpoint holds in place of one tensor."""
    if "_proj" not in name:
        return {name: weight}
    values = weight.float()
    scale = values.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    codes = (values / scale).round().clamp(-127, 127).to(torch.int8)
    return {name: codes, f"{name}_scale": scale.to(torch.bfloat16)}


def main(folder: Path, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        tensors |= quantized(name, weight)
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    for file in folder.glob("*token*.json"):
        shutil.copy(file, output)
    shutil.copy(folder / "generation_config.json", output)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = QUANTIZATION
    (output / "config.json").write_text(json.dumps(config, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
