"""A GGUF file as the parts of a Hugging Face checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vivace.formats.gguf.config import (
    ROPE_FACTORS,
    architecture_of,
    generation_config,
    model_config,
)
from vivace.formats.gguf.header import Metadata, read_header
from vivace.formats.gguf.tensors import GGUFTensors, float_values
from vivace.formats.mapped import MappedFile

SUFFIX = ".gguf"


@dataclass(frozen=True)
class GGUFCheckpoint:
    """Attributes:
    config: what config.json would say.
    generation_config: what generation_config.json would say.
    """

    config: Mapping[str, Any]
    generation_config: Mapping[str, Any]
    tensors: GGUFTensors


def is_gguf(path: Path) -> bool:
    return path.suffix.lower() == SUFFIX and path.is_file()


def open_gguf(path: Path) -> GGUFCheckpoint:
    """Read the header; no weight is read.

    Raises:
        CheckpointError: the file is damaged, or its architecture is not known.
    """
    file = MappedFile(path)
    header = read_header(file)
    architecture = architecture_of(path, header.metadata)
    factors = {name: float_values(file, header, name) for name in ROPE_FACTORS}
    config = model_config(path, header, {name: each for name, each in factors.items() if each})
    heads = (config.get("num_attention_heads") or 0, config.get("num_key_value_heads") or 0)
    tensors = GGUFTensors(file, header, architecture, heads)
    return GGUFCheckpoint(config, generation_config(header.metadata), tensors)


def read_metadata(path: Path) -> Metadata:
    """Raises CheckpointError: the file is damaged."""
    return read_header(MappedFile(path)).metadata
