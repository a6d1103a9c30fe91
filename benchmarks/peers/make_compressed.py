"""A Llama-shaped checkpoint for vLLM in the layouts of compressed-tensors, rounded to nearest.

    python make_compressed.py MODEL OUTPUT w8a8|w4a16

w8a8 has per-channel weights and per-token activations in int8, w4a16 symmetric int4 weights in
groups of 128. Embeddings, norms and the output head stay bfloat16, as vLLM's own recipes leave
them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

GROUP = 128
CODES_PER_WORD = 8
SYMMETRIC_INT = {"type": "int", "symmetric": True}
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "w8a8": (
        "int-quantized",
        {
            "weights": {**SYMMETRIC_INT, "num_bits": 8, "strategy": "channel"},
            "input_activations": {
                **SYMMETRIC_INT,
                "num_bits": 8,
                "strategy": "token",
                "dynamic": True,
            },
        },
    ),
    "w4a16": (
        "pack-quantized",
        {"weights": {**SYMMETRIC_INT, "num_bits": 4, "strategy": "group", "group_size": GROUP}},
    ),
}


def int8_channels(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / 127
    codes = (weight / scale).round().clamp(-127, 127).to(torch.int8)
    return {name: codes, f"{name}_scale": scale.to(torch.bfloat16)}


def int4_groups(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    """Eight codes in a word, the first in its lowest bits, each with 8 added."""
    rows, columns = weight.shape
    groups = weight.reshape(rows, columns // GROUP, GROUP)
    scale = groups.abs().amax(dim=2, keepdim=True).clamp(min=1e-12) / 7
    codes = ((groups / scale).round().clamp(-8, 7) + 8).to(torch.int64)
    shifts = 4 * torch.arange(CODES_PER_WORD)
    words = (codes.reshape(rows, -1, CODES_PER_WORD) << shifts).sum(dim=2)
    return {
        f"{name}_packed": torch.where(words < 2**31, words, words - 2**32).to(torch.int32),
        f"{name}_scale": scale.squeeze(2).to(torch.bfloat16),
        f"{name}_shape": torch.tensor([rows, columns]),
    }


def main(folder: Path, output: Path, scheme: str) -> None:
    output.mkdir(parents=True, exist_ok=True)
    quantize = {"w8a8": int8_channels, "w4a16": int4_groups}[scheme]
    tensors: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        tensors |= quantize(name, weight.float()) if "_proj" in name else {name: weight}
    save_file(tensors, output / "model.safetensors", {"format": "pt"})
    for file in folder.glob("*token*.json"):
        shutil.copy(file, output)
    shutil.copy(folder / "generation_config.json", output)
    layout, group = SCHEMES[scheme]
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": layout,
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": {"targets": ["Linear"], **group}},
    }
    (output / "config.json").write_text(json.dumps(config, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
