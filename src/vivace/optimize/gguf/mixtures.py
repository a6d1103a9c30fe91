"""Which tensor gets which type in a file of a kind: the choices of llama.cpp's own quantizer
(src/llama-quant.cpp), so that files of one kind are of one size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from vivace.core.errors import UsageError
from vivace.formats.gguf.blocks import TYPES

# Where rows are no whole blocks.
_FALLBACKS = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_BLOCKS = {kind.name: kind.values for kind in TYPES.values()}
_EIGHT_EXPERTS = 8  # Mixtral's number, for which there are rules
_DEEP = 80  # layers of models whose values are shared by many heads


@dataclass(frozen=True)
class FileType:
    """Attributes:
    number: of `general.file_type`.
    matrices: their type, unless a rule says otherwise.
    size: of K types, which layers get finer ones: some (M) or few (S).
    """

    number: int
    matrices: str
    size: Literal["S", "M"] | None = None

    @property
    def is_float(self) -> bool:
        return _BLOCKS[self.matrices] == 1


FILE_TYPES: Mapping[str, FileType] = {
    "F32": FileType(0, "F32"),
    "F16": FileType(1, "F16"),
    "BF16": FileType(32, "BF16"),
    "Q8_0": FileType(7, "Q8_0"),
    "Q6_K": FileType(18, "Q6_K"),
    "Q5_K_M": FileType(17, "Q5_K", "M"),
    "Q5_K_S": FileType(16, "Q5_K", "S"),
    "Q4_K_M": FileType(15, "Q4_K", "M"),
    "Q4_K_S": FileType(14, "Q4_K", "S"),
    "Q4_0": FileType(2, "Q4_0"),
}


@dataclass(frozen=True)
class Shape:
    """What the rules look at in a model."""

    layers: int
    experts: int
    groups_heads: bool
    tied: bool


def file_type_named(name: str) -> FileType:
    """Raises UsageError: there is no such type."""
    found = FILE_TYPES.get(name.upper())
    if found is None:
        raise UsageError(f"There is no type {name!r}; choose among {', '.join(FILE_TYPES)}.")
    return found


def type_of(name: str, shape: tuple[int, ...], file: FileType, model: Shape) -> str:
    """The type of a tensor, by its name in GGUF. Vectors and routers stay float32."""
    if len(shape) < 2 or "ffn_gate_inp" in name:
        return "F32"
    if file.is_float:
        return file.matrices
    wanted, width = _wanted(name, shape[-1], file, model), shape[-1]
    if width % _BLOCKS[wanted]:
        wanted = _FALLBACKS.get(wanted, wanted)
    return wanted if width % _BLOCKS[wanted] == 0 else "F16"


def _wanted(name: str, width: int, file: FileType, model: Shape) -> str:
    stem, _, _ = name.rpartition(".")
    if stem == "output" or (stem == "token_embd" and model.tied):
        whole = width % _BLOCKS[file.matrices] == 0
        return "Q6_K" if whole and file.matrices != "Q8_0" else "Q8_0"
    if not stem.startswith("blk."):
        return file.matrices
    _, index, part = stem.split(".")
    layer, mixture = int(index), model.experts == _EIGHT_EXPERTS
    if mixture and part in ("attn_k", "attn_v"):
        return "Q8_0"
    if mixture and part == "attn_output" and file.matrices == "Q4_K":
        return "Q5_K"
    if part in ("attn_v", "attn_qkv"):
        return _of_values(layer, file, model)
    if part.startswith("ffn_down"):
        return _of_down(layer, file, model)
    return file.matrices


def _of_values(layer: int, file: FileType, model: Shape) -> str:
    if file.size == "M" and _finer(layer, model.layers):
        return "Q6_K"
    if file.matrices != "Q4_K":
        return file.matrices
    few = file.size == "S" and layer < 4
    return "Q5_K" if few or (model.layers == _DEEP and model.groups_heads) else "Q4_K"


def _of_down(layer: int, file: FileType, model: Shape) -> str:
    if file.size == "M" and _finer(layer, model.layers):
        return "Q6_K"
    first = file.size == "S" and file.matrices == "Q4_K" and layer < model.layers // 8
    return "Q5_K" if first else file.matrices


def _finer(layer: int, layers: int) -> bool:
    """The first and the last eighth, and every third layer between."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
