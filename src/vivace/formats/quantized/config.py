"""How a checkpoint says that it was quantized: `quantization_config` of its config.json."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from vivace.core.errors import CheckpointError
from vivace.formats.quantized.layouts import AWQ, GPTQ, PACK_QUANTIZED, Layout, Rounding

RoundingOf: TypeAlias = Callable[[str], Rounding | None]  # of a module, by its name

COMPRESSED_TENSORS = "compressed-tensors"
LAYOUTS: dict[str, Layout] = {COMPRESSED_TENSORS: PACK_QUANTIZED, "gptq": GPTQ, "awq": AWQ}
_GPTQ_BITS = (2, 3, 4, 8)


def method_of(config: Mapping[str, Any]) -> str | None:
    """The method, where it is one that can be read."""
    quantization = config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    return method if method in LAYOUTS else None


def rounding_of(config: Mapping[str, Any], grouped_activation_bits: int | None) -> RoundingOf:
    """What each module was rounded to.

    Args:
        config: config.json, with a method that can be read.
        grouped_activation_bits: of matrices in groups, whose checkpoints leave it to the reader.

    Raises:
        CheckpointError: the configuration asks for what is not supported.
    """
    quantization = dict(config["quantization_config"])
    try:
        return _READERS[quantization["quant_method"]](quantization, grouped_activation_bits)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CheckpointError(
            f"quantization_config in config.json is damaged ({type(error).__name__}: {error}); "
            "download it again."
        ) from error


def _gptq(quantization: Mapping[str, Any], activation_bits: int | None) -> RoundingOf:
    bits = quantization["bits"]
    if bits not in _GPTQ_BITS or quantization.get("dynamic"):
        raise CheckpointError(
            "Of GPTQ, one width of 2, 3, 4 or 8 bits for all layers is supported; quantize the "
            "original weights with `vivace quantize`."
        )
    first_format = quantization.get("checkpoint_format", "gptq") == "gptq"
    symmetric = bool(quantization.get("sym", False))
    rounding = Rounding(bits, _group(quantization["group_size"]), symmetric, activation_bits)
    if first_format:  # which keeps zero points less one
        rounding = Rounding(bits, rounding.group_size, symmetric, activation_bits, zero_offset=1)
    return lambda module: rounding


def _awq(quantization: Mapping[str, Any], activation_bits: int | None) -> RoundingOf:
    bits = quantization.get("bits", quantization.get("w_bit"))
    if bits != 4 or quantization.get("version", "gemm").lower() != "gemm":
        raise CheckpointError(
            'Of AWQ, 4 bits in the version "gemm" are supported; quantize the original weights '
            "with `vivace quantize`."
        )
    group = _group(quantization.get("group_size", quantization.get("q_group_size", -1)))
    symmetric = not quantization.get("zero_point", True)
    rounding = Rounding(bits, group, symmetric, activation_bits)
    return lambda module: rounding


def _compressed_tensors(quantization: Mapping[str, Any], activation_bits: int | None) -> RoundingOf:
    groups = [
        (tuple(group["targets"]), _of_group(group, activation_bits))
        for group in quantization["config_groups"].values()
    ]

    def find(module: str) -> Rounding | None:
        """A target that names the module goes before one that names its class."""
        for targets, rounding in groups:
            if any(_names(target, module) for target in targets):
                return rounding
        return next((rounding for targets, rounding in groups if "Linear" in targets), None)

    return find


def _of_group(group: Mapping[str, Any], activation_bits: int | None) -> Rounding:
    weights, inputs = group["weights"], group.get("input_activations")
    size = weights.get("group_size") if weights.get("strategy") == "group" else None
    return Rounding(
        bits=weights["num_bits"],
        group_size=_group(size),
        symmetric=weights.get("symmetric", True),
        activation_bits=activation_bits if inputs is None else _activation_bits(inputs),
    )


def _activation_bits(inputs: Mapping[str, Any]) -> int | None:
    """8 where rows are rounded to int8 as they come. Any other rounding of activations is left
    out: they keep more of their precision."""
    by_row = inputs.get("dynamic") is True and inputs.get("strategy") == "token"
    int8 = inputs.get("num_bits") == 8 and inputs.get("type", "int") == "int"
    return 8 if by_row and int8 and inputs.get("symmetric", True) else None


def _names(target: str, module: str) -> bool:
    if target.startswith("re:"):
        return re.match(target[3:], module) is not None
    return module == target


def _group(size: int | None) -> int | None:
    return size if size is not None and size > 0 else None


_READERS: dict[str, Callable[[Mapping[str, Any], int | None], RoundingOf]] = {
    COMPRESSED_TENSORS: _compressed_tensors,
    "gptq": _gptq,
    "awq": _awq,
}
