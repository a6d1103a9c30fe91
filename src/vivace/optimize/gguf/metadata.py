"""What a model is, as a GGUF file's metadata: the way back from `formats.gguf.config`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.core.kinds import is_number
from vivace.formats.checkpoint import Checkpoint, end_token_ids
from vivace.formats.gguf.architectures import ARCHITECTURES, KEYS, MIXTRAL, Architecture
from vivace.models.config import Config
from vivace.models.families import FAMILIES
from vivace.models.rope import rope_parameters
from vivace.models.spec import ModelSpec
from vivace.optimize.gguf.mixtures import FileType

_ALIASES = {"mistral": "llama", "mixtral": "llama"}  # one architecture in llama.cpp
_QUANTIZATION_VERSION = 2  # of ggml's blocks, as they have been since 2023
_IN_WORDS, _LONG = ("linear", "yarn"), ("longrope", "su")  # kinds of rotary scaling
_ENDS = ("eos", "eot", "eom")
_FLOATS = frozenset(  # by llama.cpp's readers; other numbers are integers
    {
        "attention.layer_norm_rms_epsilon",
        "rope.freq_base",
        "rope.freq_base_swa",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "attention.scale",
        "embedding_scale",
        "residual_scale",
        "logit_scale",
    }
)


def architecture_named(family: str) -> tuple[str, Architecture] | None:
    """The architecture of a model type, and its name in GGUF; None where there is none."""
    if family == "mixtral":
        return "llama", MIXTRAL
    for name, architecture in ARCHITECTURES.items():
        if architecture.model_type == _ALIASES.get(family, family):
            return name, architecture
    return None


def model_metadata(
    checkpoint: Checkpoint, name: str, architecture: Architecture, spec: ModelSpec
) -> dict[str, Any]:
    """The architecture's keys, with the values of the family's defaults too.

    Args:
        name: of the architecture.
    """
    values, parameters = _settings(checkpoint, spec)
    found = {
        key: float(values[usual]) if key in _FLOATS else int(values[usual])
        for key, usual in {**KEYS, **architecture.keys}.items()
        if is_number(values.get(usual))
    }
    size = spec.layers[0].attention.head_dim
    own = {
        **found,
        "attention.value_length": size,
        "vocab_size": spec.vocab_size,
        **_rope(parameters, spec, size),
    }
    return {f"{name}.{key}": value for key, value in own.items()}


def general_metadata(name: str, model: str, file_type: FileType) -> dict[str, Any]:
    return {
        "general.architecture": name,
        "general.type": "model",
        "general.name": model,
        "general.file_type": file_type.number,
        "general.quantization_version": _QUANTIZATION_VERSION,
    }


def end_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tokens that end an answer: as many as GGUF has names for."""
    ends = zip(_ENDS, end_token_ids(checkpoint), strict=False)
    return {f"tokenizer.ggml.{kind}_token_id": token_id for kind, token_id in ends}


def rope_tensors(checkpoint: Checkpoint, spec: ModelSpec) -> dict[str, NDArray[np.float32]]:
    """Rotary scalings that GGUF keeps as a factor for each pair: Llama 3's and LongRoPE."""
    _, parameters = _settings(checkpoint, spec)
    kind = _kind(parameters)
    if kind == "llama3":
        frequencies = np.asarray(spec.rotaries[0].inv_freq)
        pairs = np.arange(len(frequencies)) / len(frequencies)
        unscaled = float(parameters["rope_theta"]) ** -pairs
        return {"rope_freqs.weight": (unscaled / frequencies).astype(np.float32)}
    if kind in _LONG:
        return {
            f"rope_factors_{length}.weight": np.asarray(parameters[f"{length}_factor"], np.float32)
            for length in ("long", "short")
        }
    return {}


def _settings(checkpoint: Checkpoint, spec: ModelSpec) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration over the family's defaults, and its rotary settings."""
    family, attention = FAMILIES[spec.family], spec.layers[0].attention
    values = {**family.defaults, **family.normalize(checkpoint.config)}
    values |= {"head_dim": attention.head_dim, "num_key_value_heads": attention.num_kv_heads}
    parameters = rope_parameters(Config(values, spec.max_model_len))
    return {**values, "rope_theta": parameters.get("rope_theta")}, parameters


def _rope(parameters: Mapping[str, Any], spec: ModelSpec, head_dim: int) -> dict[str, Any]:
    turning = int(head_dim * parameters.get("partial_rotary_factor", 1.0))
    found: dict[str, Any] = {"rope.dimension_count": turning}
    kind, original = _kind(parameters), parameters.get("original_max_position_embeddings")
    if kind in _IN_WORDS:
        found["rope.scaling.type"] = kind
        found["rope.scaling.factor"] = float(parameters["factor"])
    if kind in _LONG:
        found["rope.scaling.attn_factor"] = float(spec.rotaries[0].scale)
    if kind in (*_IN_WORDS, *_LONG) and original:
        found["rope.scaling.original_context_length"] = int(original)
    return found


def _kind(parameters: Mapping[str, Any]) -> Any:
    return parameters.get("rope_type") or parameters.get("type")
