"""The tensors of a quantized checkpoint: each matrix, whatever it is made of, under the name that
its floats would have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from vivace.core.errors import CheckpointError
from vivace.formats.quantized.config import LAYOUTS, RoundingOf, method_of, rounding_of
from vivace.formats.quantized.layouts import Layout, Parts, Rounding
from vivace.formats.quantized.matrices import PackedMatrix, ScaledMatrix
from vivace.formats.safetensors import SafetensorsFile

Matrix: TypeAlias = PackedMatrix | ScaledMatrix
Files: TypeAlias = Mapping[str, SafetensorsFile]

_SCALED_DTYPES = ("I8", "F8_E4M3")


def matrices_of(
    files: Files, config: Mapping[str, Any], grouped_activation_bits: int | None = None
) -> dict[str, SafetensorsFile | Matrix]:
    """Every tensor of a checkpoint; those that quantized matrices are made of are taken together.

    Args:
        config: config.json, with a method that can be read.
        grouped_activation_bits: as `config.rounding_of` takes it.

    Raises:
        CheckpointError: a matrix is incomplete, or the configuration asks for what is not
            supported.
    """
    method = method_of(config)
    assert method is not None
    layout, find = LAYOUTS[method], rounding_of(config, grouped_activation_bits)
    made: dict[str, SafetensorsFile | Matrix] = dict(files)
    for name, file in files.items():
        module, _, part = name.rpartition(".")
        if part == layout.needed[0]:
            _take(made, files, module, _packed(layout, _rounding(find, module)))
        elif part == "weight" and file.entry(name).dtype in _SCALED_DTYPES:
            _take(made, files, module, _scaled(_rounding(find, module)))
    return made


@dataclass(frozen=True)
class _Maker:
    """Attributes:
    needed, optional: a matrix' parts by the ends of their names; it is in the first one's file.
    """

    needed: tuple[str, ...]
    optional: tuple[str, ...]
    make: Callable[[SafetensorsFile, Parts, int], Matrix]


def _packed(layout: Layout, rounding: Rounding) -> _Maker:
    def make(file: SafetensorsFile, parts: Parts, nbytes: int) -> Matrix:
        return PackedMatrix(file.path, layout, rounding, parts, nbytes, file.release)

    return _Maker(layout.needed, layout.optional, make)


def _scaled(rounding: Rounding) -> _Maker:
    def make(file: SafetensorsFile, parts: Parts, nbytes: int) -> Matrix:
        return ScaledMatrix(file.path, rounding, parts, nbytes, file.release)

    return _Maker(("weight", "weight_scale"), ("weight_zero_point",), make)


def _take(
    made: dict[str, SafetensorsFile | Matrix], files: Files, module: str, maker: _Maker
) -> None:
    """Put one matrix in the place of its parts."""
    missing = [part for part in maker.needed if f"{module}.{part}" not in files]
    if missing:
        raise CheckpointError(f"{module} lacks its {missing[0]}; download the checkpoint again.")
    every = (*maker.needed, *maker.optional)
    names = {part: f"{module}.{part}" for part in every if f"{module}.{part}" in files}
    arrays = {part: files[name].raw(name) for part, name in names.items()}
    nbytes = sum(files[name].entry(name).nbytes for name in names.values())
    for name in names.values():
        del made[name]
    made[f"{module}.weight"] = maker.make(files[names[maker.needed[0]]], arrays, nbytes)


def _rounding(find: RoundingOf, module: str) -> Rounding:
    rounding = find(module)
    if rounding is None:
        raise CheckpointError(
            f"quantization_config in config.json does not say how {module} was quantized."
        )
    return rounding
