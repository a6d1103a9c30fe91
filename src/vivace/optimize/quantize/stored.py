"""Rounded matrices in the layouts that are stored: compressed-tensors' on disk, ours in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from vivace.formats.qtensor import Array, QTensor, Scheme
from vivace.formats.quantized.words import Codes, pack_stream
from vivace.formats.schemes import SCHEMES
from vivace.optimize.layer import WorkingLayer
from vivace.optimize.quantize.grid import Rounded


def store(layer: WorkingLayer, name: str, rounded: Rounded, finer: Rounded | None = None) -> None:
    """The end of a linear: rounded weights in the place of its floats. What comes after it is
    calibrated on these, without what is finer."""
    for source, rows in layer.split(name):
        part = rounded.rows(rows)
        layer.final[source.name] = as_arrays(source.name, part)
        layer.tensors.changed[source.name] = as_tensor(source.name, part)
        if finer is not None:
            layer.finer[source.name] = as_arrays(source.name, finer.rows(rows))


def as_tensor(name: str, rounded: Rounded) -> QTensor:
    """As a backend gets it from the artefact: codes where it multiplies by such, else floats."""
    scheme, shape = rounded.grid.scheme, rounded.codes.shape
    if scheme not in SCHEMES.values():
        return QTensor.from_array(name, rounded.values())
    scales = rounded.grid.scales
    if scheme.bits == 8:
        rows: dict[str, Array] = {"weight": rounded.codes.astype(np.int8), "weight_scale": scales}
        return QTensor(name, shape, scheme, rows)
    codes = _unsigned(rounded)
    buffers: dict[str, Array] = {
        "weight_packed": codes[:, 0::2] | codes[:, 1::2] << np.uint8(4),
        "weight_scale": scales.astype(np.float16),
    }
    if scheme.zero_points:
        buffers["weight_zero_point"] = rounded.grid.zeros.astype(np.uint8)
    return QTensor(name, shape, scheme, buffers)


def as_arrays(name: str, rounded: Rounded) -> dict[str, Array]:
    """As compressed-tensors names and packs it, for a module's `weight` of this name: 8 bits as
    "int-quantized", fewer as "pack-quantized"."""
    scheme, scales = rounded.grid.scheme, rounded.grid.scales
    if scheme.bits == 8:
        return {name: rounded.codes.astype(np.int8), f"{name}_scale": scales}
    arrays: dict[str, Array] = {
        f"{name}_packed": pack_stream(_unsigned(rounded), scheme.bits),
        f"{name}_scale": scales.astype(ml_dtypes.bfloat16),
        f"{name}_shape": np.asarray(rounded.codes.shape, np.int64),
    }
    if scheme.zero_points:
        zeros = np.ascontiguousarray(rounded.grid.zeros.astype(np.uint8).T)
        packed = pack_stream(zeros, scheme.bits).T
        arrays[f"{name}_zero_point"] = np.ascontiguousarray(packed)
    return arrays


def group_config(scheme: Scheme) -> dict[str, Any]:
    """How compressed-tensors describes matrices of a scheme. Of 8 bits, activations are rounded
    too; of fewer, that is left to whoever loads them."""
    weights = {"type": "int", "num_bits": scheme.bits, "symmetric": not scheme.zero_points}
    if scheme.bits != 8:
        weights |= {"strategy": "group", "group_size": scheme.group_size}
        return {"format": "pack-quantized", "weights": weights, "input_activations": None}
    weights |= {"strategy": "channel"}
    rows = {"type": "int", "num_bits": 8, "symmetric": True, "strategy": "token", "dynamic": True}
    return {"format": "int-quantized", "weights": weights, "input_activations": rows}


def quantization_config(schemes: Mapping[str, Scheme]) -> dict[str, Any]:
    """For config.json.

    Args:
        schemes: of each module by its name.
    """
    modules: dict[Scheme, list[str]] = {}
    for module, scheme in schemes.items():
        modules.setdefault(scheme, []).append(module)
    groups = {
        f"group_{i}": {"targets": ["Linear"] if len(modules) == 1 else names, **group_config(kind)}
        for i, (kind, names) in enumerate(modules.items())
    }
    formats = {group["format"] for group in groups.values()}
    return {
        "quant_method": "compressed-tensors",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": groups,
    }


def _unsigned(rounded: Rounded) -> Codes:
    scheme = rounded.grid.scheme
    offset = 0 if scheme.zero_points else 2 ** (scheme.bits - 1)
    return (rounded.codes + offset).astype(np.uint8)
