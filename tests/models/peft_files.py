"""LoRA adapters written as PEFT writes them, with what they would add to a model's weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

CONFIG = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "some/model",
    "inference_mode": True,
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "layer_replication": None,
    "lora_dropout": 0.05,
    "modules_to_save": None,
    "use_dora": False,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
}


def write_adapter(
    folder: Path,
    modules: Mapping[str, tuple[int, int]],
    rank: int = 4,
    seed: int = 0,
    **config: Any,
) -> dict[str, NDArray[np.float32]]:
    """An adapter of these modules [out, in]; the product that each adds to its module's weight."""
    alpha = config.setdefault("lora_alpha", 2 * rank)
    rng = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}
    added = {}
    for name, (outputs, inputs) in modules.items():
        a = rng.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
        b = rng.normal(0, rank**-0.5, (outputs, rank)).astype(np.float32)
        tensors[f"base_model.model.{name}.lora_A.weight"] = a
        tensors[f"base_model.model.{name}.lora_B.weight"] = b
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        added[name] = np.float32(scale) * (b @ a)
    write_files(folder, tensors, r=rank, target_modules=sorted(modules), **config)
    return added


def write_files(folder: Path, tensors: Mapping[str, Any], **config: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **config}))
    save_file(dict(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})
