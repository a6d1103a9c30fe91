"""Reads LoRA adapters as PEFT writes them: adapter_config.json and adapter_model.safetensors.

https://huggingface.co/docs/peft: a module's `lora_A.weight` [rank, in] and `lora_B.weight`
[out, rank] add scale * B (A x) to what it gives. The scale is alpha / rank, or alpha / sqrt(rank)
where it is rank-stabilised (Kalajdzievski, 2023).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivace.core.errors import CheckpointError
from vivace.core.kinds import is_number
from vivace.formats.qtensor import QTensor
from vivace.formats.safetensors import SafetensorsFile

CONFIG_FILE = "adapter_config.json"
TENSORS_FILE = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_NAME = re.compile(r"(?P<module>.+)\.lora_(?P<half>[AB])\.weight")
# Settings with which an adapter is more than these products: what they may be, and their names.
_MORE: Mapping[str, tuple[object, str]] = {
    "use_dora": (False, "DoRA"),
    "use_qalora": (False, "QALoRA"),
    "bias": ("none", "trained biases"),
    "lora_bias": (False, "trained biases"),
    "modules_to_save": ([], "modules_to_save"),
    "trainable_token_indices": ([], "trained tokens"),
    "target_parameters": ([], "target_parameters"),
    "layer_replication": ([], "layer_replication"),
    "alora_invocation_tokens": ([], "activated LoRA"),
}
# Begun with these, an adapter is trained beside weights that are not the model's own.
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True)
class LoraModule:
    """One module's share: a [rank, in], b [out, rank]."""

    a: QTensor
    b: QTensor
    scale: float

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True)
class LoraAdapter:
    """An opened adapter; its tensors are memory-mapped.

    Attributes:
        modules: by the module's name in the model.
        digest: of its content.
    """

    folder: Path
    modules: Mapping[str, LoraModule]
    digest: str


def open_adapter(folder: Path) -> LoraAdapter:
    """Raises CheckpointError where it is incomplete, damaged, or more than LoRA."""
    config = _read_config(folder)
    _check_plain(folder, config)
    path = folder / TENSORS_FILE
    if not path.is_file():
        raise CheckpointError(f"{folder} has no {TENSORS_FILE}; save the adapter as safetensors.")
    file = SafetensorsFile(path)
    halves: dict[str, dict[str, QTensor]] = {}
    for name in file:
        found = _NAME.fullmatch(name)
        if found is None:
            raise CheckpointError(
                f"{path} has the tensor {name}, which is not supported; only lora_A.weight and "
                "lora_B.weight of linear layers are."
            )
        halves.setdefault(found["module"].removeprefix(_PREFIX), {})[found["half"]] = file.tensor(
            name
        )
    modules = {name: _module(folder, config, name, both) for name, both in halves.items()}
    if not modules:
        raise CheckpointError(f"{path} has no tensors; train the adapter first.")
    return LoraAdapter(folder, modules, _digest(folder))


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(
            f"{folder} is no LoRA adapter: {CONFIG_FILE} cannot be read ({error.strerror})."
        ) from None
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON ({error}); download it again.") from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold a JSON object.")
    return config


def _check_plain(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise CheckpointError(f"{folder} is an adapter of type {kind}; only LORA is supported.")
    for name, (neutral, said) in _MORE.items():
        if config.get(name) and config[name] != neutral:
            raise CheckpointError(
                f"{folder} has {said} ({name} in {CONFIG_FILE}), which is not supported; merge it "
                "into the model."
            )
    begun = config.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_CHANGED_BASE):
        raise CheckpointError(
            f"{folder} was begun with {begun}, which changes the model too; have PEFT convert it "
            "to LoRA (path_initial_model_for_weight_conversion)."
        )


def _module(
    folder: Path, config: Mapping[str, Any], name: str, halves: Mapping[str, QTensor]
) -> LoraModule:
    if len(halves) < 2:
        raise CheckpointError(f"{folder} has only one of lora_A and lora_B for {name}.")
    a, b = halves["A"], halves["B"]
    rank = a.shape[0] if a.shape else 0
    if len(a.shape) != 2 or len(b.shape) != 2 or not rank or b.shape[1] != rank:
        raise CheckpointError(
            f"lora_A and lora_B of {name} in {folder} have shapes {list(a.shape)} and "
            f"{list(b.shape)}, which do not fit together."
        )
    alpha = _alpha(folder, config, name)
    return LoraModule(a, b, alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _alpha(folder: Path, config: Mapping[str, Any], name: str) -> float:
    """By `alpha_pattern`, whose keys are ends of module names, or patterns for these."""
    alpha = config.get("lora_alpha", 8)
    try:
        for pattern, own in (config.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", name):
                alpha = own
                break
    except (re.error, AttributeError):
        raise CheckpointError(
            f"alpha_pattern in {folder / CONFIG_FILE} must map patterns to numbers."
        ) from None
    if not is_number(alpha):
        raise CheckpointError(f"lora_alpha in {folder / CONFIG_FILE} must be a number.")
    return float(alpha)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    try:
        for name in (CONFIG_FILE, TENSORS_FILE):
            digest.update((folder / name).read_bytes())
    except OSError as error:
        raise CheckpointError(f"Cannot read {folder}: {error.strerror}.") from None
    return digest.hexdigest()
