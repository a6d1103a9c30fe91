"""From a GGUF file's metadata to what config.json and generation_config.json would say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vivace.core.errors import CheckpointError
from vivace.core.kinds import is_number
from vivace.formats.gguf.architectures import ARCHITECTURES, KEYS, MIXTRAL, Architecture
from vivace.formats.gguf.header import Header, Metadata

ROPE_FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")

# llama.cpp knows these models by their depth, and scales queries by the width of a head's share.
_WIDE_SCALES = {("gemma2", 46), ("gemma3", 62)}

_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
# An answer also ends at these, as in llama.cpp, where they are control tokens.
_END_TOKENS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
)
CONTROL = 3  # of tokenizer.ggml.token_type


def architecture_of(path: Path, metadata: Metadata) -> Architecture:
    """Raises CheckpointError: it is not known, or the file is one of several."""
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise CheckpointError(
            f"The architecture {name!r} of {path} is not supported; known are "
            f"{', '.join(ARCHITECTURES)}."
        )
    parts = metadata.get("split.count")
    if parts not in (None, 0, 1):
        raise CheckpointError(
            f"{path} is one of {parts} parts; join them with llama-gguf-split --merge."
        )
    mixture = name == "llama" and metadata.get("llama.expert_count")
    return MIXTRAL if mixture else ARCHITECTURES[name]


def model_config(path: Path, header: Header, factors: Mapping[str, list[float]]) -> dict[str, Any]:
    """The keys that the families of `models` read.

    Args:
        factors: the values of those tensors of `ROPE_FACTORS` that the file has.

    Raises:
        CheckpointError: the architecture is not known, or layers differ in what should be one
            number.
    """
    metadata = header.metadata
    architecture = architecture_of(path, metadata)
    reader = _Reader(path, metadata, metadata["general.architecture"])
    sizes = _sizes(reader, architecture)
    table = header.tensors.get("token_embd.weight")
    return {
        **sizes,
        "model_type": architecture.model_type,
        "vocab_size": None if table is None else table.shape[0],
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in header.tensors,
        "norm_topk_prob": True,
        "bos_token_id": metadata.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": list(_end_token_ids(metadata)),
        **_rope(reader, sizes, factors),
        **_query_scale(reader.architecture, sizes),
    }


def generation_config(metadata: Metadata) -> dict[str, Any]:
    """Sampling defaults, where the file suggests some."""
    found = {name: metadata.get(f"general.sampling.{key}") for key, name in _SAMPLING.items()}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class _Reader:
    path: Path
    metadata: Metadata
    architecture: str

    def text(self, key: str) -> str | None:
        value = self.metadata.get(f"{self.architecture}.{key}")
        return value if isinstance(value, str) else None

    def number(self, key: str) -> Any:
        """A value of the architecture's; of one for each layer the one that all share.

        Raises:
            CheckpointError: it is no number, or differs from layer to layer.
        """
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, np.ndarray) and len(set(value.tolist())) == 1:
            return value[0].item()
        if value is not None and not is_number(value):
            raise CheckpointError(
                f"{key} in {self.path} is not one number for all layers, which is not supported."
            )
        return value

    def numbers(self, keys: Mapping[str, str]) -> dict[str, Any]:
        found = {usual: self.number(key) for key, usual in keys.items()}
        return {usual: value for usual, value in found.items() if value is not None}


def _sizes(reader: _Reader, architecture: Architecture) -> dict[str, Any]:
    """All numbers, with llama.cpp's defaults where the families have others."""
    found = reader.numbers({**KEYS, **architecture.keys})
    heads, hidden = found.get("num_attention_heads"), found.get("hidden_size")
    if heads and hidden:
        found.setdefault("head_dim", hidden // heads)
    found.setdefault("num_key_value_heads", heads)
    found.setdefault("rope_theta", 10000.0)
    return {**found, "sliding_window": found.get("sliding_window") or None}


def _rope(
    reader: _Reader, config: Mapping[str, Any], factors: Mapping[str, list[float]]
) -> dict[str, Any]:
    """Rotary settings: the part of each head that turns, and how frequencies are scaled."""
    turning, size = reader.number("rope.dimension_count"), config.get("head_dim")
    part = {"partial_rotary_factor": turning / size} if turning and size else {}
    scaling = _scaling(reader, config, factors)
    if scaling is None:
        return part
    # At the top level too, where it comes before a family's default.
    original = scaling.get("original_max_position_embeddings")
    return {**part, "rope_scaling": scaling, "original_max_position_embeddings": original}


def _scaling(
    reader: _Reader, config: Mapping[str, Any], factors: Mapping[str, list[float]]
) -> dict[str, Any] | None:
    trained = config.get("max_position_embeddings")
    original = reader.number("rope.scaling.original_context_length") or trained
    if "rope_freqs.weight" in factors:  # Llama 3's scaling, worked out
        each = factors["rope_freqs.weight"]
        return _listed(each, each, original, 1.0)
    long = factors.get("rope_factors_long.weight")
    if long is not None:
        short = factors.get("rope_factors_short.weight", long)
        return _listed(long, short, original, reader.number("rope.scaling.attn_factor") or 1.0)
    kind, factor = reader.text("rope.scaling.type"), reader.number("rope.scaling.factor")
    if kind in (None, "none") or not factor:
        return None
    scaling = {"rope_type": kind, "factor": factor}
    return scaling if kind != "yarn" else {**scaling, "original_max_position_embeddings": original}


def _listed(
    long: list[float], short: list[float], original: int | None, attention_factor: float
) -> dict[str, Any]:
    """A factor for each pair."""
    return {
        "rope_type": "longrope",
        "long_factor": long,
        "short_factor": short,
        "original_max_position_embeddings": original,
        "attention_factor": attention_factor,
    }


def _query_scale(architecture: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Gemma's, which GGUF does not keep."""
    if not architecture.startswith("gemma"):
        return {}
    if (architecture, config.get("num_hidden_layers")) in _WIDE_SCALES:
        return {"query_pre_attn_scalar": config["hidden_size"] // config["num_attention_heads"]}
    return {"query_pre_attn_scalar": config.get("head_dim")}


def _end_token_ids(metadata: Metadata) -> dict[int, None]:
    """In order, each once."""
    given = (metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom"))
    ids = {token_id: None for token_id in given if token_id is not None}
    tokens = metadata.get("tokenizer.ggml.tokens", [])
    types = np.asarray(metadata.get("tokenizer.ggml.token_type", []))[: len(tokens)]
    control = (i for i in np.flatnonzero(types == CONTROL).tolist() if tokens[i] in _END_TOKENS)
    return ids | dict.fromkeys(control)
