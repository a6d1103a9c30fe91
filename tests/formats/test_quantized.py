"""Checkpoints that other tools have quantized: the same codes and scales, or the same floats.

Words are packed here number by number, from the tools' own descriptions of their layouts.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from vivace.core.errors import CheckpointError
from vivace.formats.checkpoint import Checkpoint, open_checkpoint
from vivace.formats.qtensor import INT8, QTensor
from vivace.formats.quantized.words import pack_stream, unpack_stream
from vivace.formats.schemes import int4

pytestmark = pytest.mark.tiny

RNG = np.random.default_rng(3)
OUT, IN, GROUP = 16, 64, 32
AWQ_NIBBLES = (0, 2, 4, 6, 1, 3, 5, 7)  # the column that each nibble of a word holds


def opened(folder: Path, tensors: dict[str, Any], quantization: dict[str, Any]) -> Checkpoint:
    config = {"model_type": "llama", "quantization_config": quantization}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {name: np.ascontiguousarray(array) for name, array in tensors.items()},
        folder / "model.safetensors",
    )
    return open_checkpoint(folder)


def words_of(numbers: list[int], bits: int) -> list[int]:
    """Numbers bit after bit, the first in the lowest bits of the first word."""
    stream = sum(number << (bits * i) for i, number in enumerate(numbers))
    return [stream >> (32 * i) & 0xFFFFFFFF for i in range(len(numbers) * bits // 32)]


def packed_rows(codes: np.ndarray, bits: int) -> np.ndarray:
    rows = [words_of([int(code) for code in row], bits) for row in codes]
    return np.asarray(rows, np.uint32).view(np.int32)


def random_codes(bits: int) -> np.ndarray:
    return RNG.integers(0, 2**bits, (OUT, IN)).astype(np.int64)


def random_scales(dtype: Any) -> np.ndarray:
    return (0.01 + 0.1 * RNG.random((OUT, IN // GROUP))).astype(dtype)


def values(codes: np.ndarray, zeros: Any, scales: np.ndarray) -> np.ndarray:
    spread = np.repeat(scales.astype(np.float32), GROUP, axis=1)
    offsets = np.repeat(np.broadcast_to(zeros, scales.shape), GROUP, axis=1)
    return (codes - offsets).astype(np.float32) * spread


def only(checkpoint: Checkpoint) -> QTensor:
    assert list(checkpoint.tensors) == ["x.weight"]
    assert "quantization_config" not in checkpoint.config
    assert checkpoint.tensors.shape("x.weight") == (OUT, IN)
    return checkpoint.tensors.get("x.weight")


def compressed(bits: int = 4, inputs: Any = None, **weights: Any) -> dict[str, Any]:
    how = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group"}
    how |= {"group_size": GROUP, **weights}
    group = {"targets": ["Linear"], "weights": how, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}


def pack_quantized(codes: np.ndarray, bits: int, scales: np.ndarray) -> dict[str, np.ndarray]:
    each = 32 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % each)))
    rows = [
        [
            sum(int(code) << (bits * i) for i, code in enumerate(row[at : at + each]))
            for at in range(0, len(row), each)
        ]
        for row in padded
    ]
    return {
        "x.weight_packed": np.asarray(rows, np.uint32).view(np.int32),
        "x.weight_scale": scales,
        "x.weight_shape": np.asarray([OUT, IN], np.int64),
    }


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_codes_bit_after_bit(bits: int) -> None:
    codes = RNG.integers(0, 2**bits, (5, 33)).astype(np.uint8)
    packed = pack_stream(codes, bits)
    assert (packed.dtype, packed.shape) == (np.int32, (5, -(-33 * bits // 32)))
    np.testing.assert_array_equal(unpack_stream(packed, bits, 33), codes)
    np.testing.assert_array_equal(
        pack_stream(codes[:, :32], bits), packed_rows(codes[:, :32], bits)
    )


def test_pack_quantized_stays_as_it_is(tmp_path: Path) -> None:
    codes, scales = random_codes(4), random_scales(ml_dtypes.bfloat16)
    tensor = only(opened(tmp_path, pack_quantized(codes, 4, scales), compressed()))
    assert tensor.scheme == int4(32, activation_bits=None)
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, 8, scales))


def test_pack_quantized_with_zero_points(tmp_path: Path) -> None:
    codes, scales = random_codes(4), random_scales(np.float16)
    zeros = RNG.integers(0, 16, scales.shape)
    tensors = pack_quantized(codes, 4, scales)
    tensors["x.weight_zero_point"] = packed_rows(zeros.T, 4).T
    tensor = only(opened(tmp_path, tensors, compressed(symmetric=False)))
    assert tensor.scheme == int4(32, zero_points=True, activation_bits=None)
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, zeros, scales))


@pytest.mark.parametrize("bits", [2, 3, 8])
@pytest.mark.parametrize("across_words", [False, True])
def test_other_widths_become_floats(tmp_path: Path, bits: int, across_words: bool) -> None:
    codes, scales = random_codes(bits), random_scales(ml_dtypes.bfloat16)
    tensors = pack_quantized(codes, bits, scales)
    if across_words:
        tensors["x.weight_packed"] = packed_rows(codes, bits)
    checkpoint = opened(tmp_path, tensors, compressed(bits))
    tensor = only(checkpoint)
    assert tensor.scheme.is_float
    assert checkpoint.tensors.dtype("x.weight") == f"int{bits}"
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, 2 ** (bits - 1), scales))


@pytest.mark.parametrize(("used", "kept"), [(True, False), (False, True)])
def test_scales_that_float16_cannot_hold(tmp_path: Path, used: bool, kept: bool) -> None:
    """They make floats of a matrix, unless all they multiply is zero."""
    codes, scales = random_codes(4), random_scales(ml_dtypes.bfloat16)
    scales[3, 1] = 1.1e-8
    if not used:
        codes[3, GROUP:] = 8
    tensor = only(opened(tmp_path, pack_quantized(codes, 4, scales), compressed()))
    assert tensor.scheme.is_float is not kept
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, 8, scales))


def test_int8_rows_with_rounded_activations(tmp_path: Path) -> None:
    codes = RNG.integers(-128, 128, (OUT, IN)).astype(np.int8)
    scales = random_scales(ml_dtypes.bfloat16)[:, :1]
    rows = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
    how = compressed(8, rows, strategy="channel", group_size=None)
    tensor = only(opened(tmp_path, {"x.weight": codes, "x.weight_scale": scales}, how))
    assert tensor.scheme == INT8
    np.testing.assert_array_equal(tensor.buffers["weight"], codes)
    np.testing.assert_array_equal(tensor.to_float32(), codes * scales.astype(np.float32))


@pytest.mark.parametrize("inputs", [None, {"num_bits": 8, "strategy": "tensor", "dynamic": False}])
def test_activations_are_not_rounded_unless_they_are_so(tmp_path: Path, inputs: Any) -> None:
    codes = RNG.integers(-127, 128, (OUT, IN)).astype(np.int8)
    scales = random_scales(np.float32)[:, :1]
    how = compressed(8, inputs, strategy="channel", group_size=None)
    tensor = only(opened(tmp_path, {"x.weight": codes, "x.weight_scale": scales}, how))
    assert tensor.scheme.is_float
    np.testing.assert_array_equal(tensor.to_float32(), codes * scales)


@pytest.mark.parametrize("shape", [(1,), (OUT, 1), (2, 4)])
def test_float8_with_scales_of_all_rows_or_blocks(tmp_path: Path, shape: tuple[int, ...]) -> None:
    floats = RNG.standard_normal((OUT, IN)).astype(ml_dtypes.float8_e4m3fn)
    scales = (0.5 + RNG.random(shape)).astype(np.float32)
    how = {"quant_method": "compressed-tensors", "config_groups": {}}
    weights = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
    how["config_groups"] = {"a": {"targets": ["Linear"], "weights": weights}}
    tensor = only(opened(tmp_path, {"x.weight": floats, "x.weight_scale": scales}, how))
    wide = np.kron(scales.reshape(len(scales), -1), np.ones((OUT // len(scales), 1)))
    wide = np.repeat(wide, IN // wide.shape[1], axis=1).astype(np.float32)
    np.testing.assert_array_equal(tensor.to_float32(), floats.astype(np.float32) * wide)


def gptq(codes: np.ndarray, zeros: np.ndarray, scales: np.ndarray, bits: int) -> dict[str, Any]:
    return {
        "x.qweight": packed_rows(codes, bits).T,
        "x.qzeros": packed_rows(zeros.T, bits),
        "x.scales": scales.T,
        "x.g_idx": (np.arange(IN) // GROUP).astype(np.int32),
    }


def gptq_config(bits: int = 4, **others: Any) -> dict[str, Any]:
    return {"quant_method": "gptq", "bits": bits, "group_size": GROUP, "sym": False, **others}


@pytest.mark.parametrize("format", ["gptq", "gptq_v2"])
def test_gptq_and_its_second_format(tmp_path: Path, format: str) -> None:
    codes, scales = random_codes(4), random_scales(np.float16)
    stored = RNG.integers(0, 15, scales.shape)
    config = gptq_config(checkpoint_format=format)
    tensor = only(opened(tmp_path, gptq(codes, stored, scales, 4), config))
    zeros = stored + 1 if format == "gptq" else stored
    assert tensor.scheme == int4(32, zero_points=True, activation_bits=None)
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, zeros, scales))


def test_symmetric_gptq_has_no_zero_points(tmp_path: Path) -> None:
    codes, scales = random_codes(4), random_scales(np.float16)
    stored = np.full(scales.shape, 7)
    tensor = only(opened(tmp_path, gptq(codes, stored, scales, 4), gptq_config(sym=True)))
    assert tensor.scheme == int4(32, activation_bits=None)
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, 8, scales))


def test_a_zero_point_past_the_codes_makes_floats(tmp_path: Path) -> None:
    codes, scales = random_codes(4), random_scales(np.float16)
    stored = np.full(scales.shape, 15)
    tensor = only(opened(tmp_path, gptq(codes, stored, scales, 4), gptq_config()))
    assert tensor.scheme.is_float
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, 16, scales))


def test_act_order_scatters_groups(tmp_path: Path) -> None:
    codes, scales = random_codes(4), random_scales(np.float16)
    zeros = RNG.integers(0, 15, scales.shape)
    tensors = gptq(codes, zeros, scales, 4)
    group_of = RNG.permutation(np.arange(IN) // GROUP).astype(np.int32)
    tensor = only(opened(tmp_path, {**tensors, "x.g_idx": group_of}, gptq_config()))
    assert tensor.scheme.is_float
    expected = (codes - (zeros + 1)[:, group_of]) * scales.astype(np.float32)[:, group_of]
    np.testing.assert_array_equal(tensor.to_float32(), expected)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_gptq_of_other_widths(tmp_path: Path, bits: int) -> None:
    """Codes of 3 bits stand across words."""
    out = 32  # so that zero points fill whole words
    codes = RNG.integers(0, 2**bits, (out, IN))
    scales = (0.01 + RNG.random((out, IN // GROUP))).astype(np.float16)
    stored = RNG.integers(0, 2**bits - 1, scales.shape)
    checkpoint = opened(tmp_path, gptq(codes, stored, scales, bits), gptq_config(bits))
    tensor = checkpoint.tensors.get("x.weight")
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, stored + 1, scales))


def test_awq_and_its_order_of_outputs(tmp_path: Path) -> None:
    codes, scales = random_codes(4), random_scales(np.float16)
    zeros = RNG.integers(0, 16, scales.shape)

    def interleaved(by_input: np.ndarray) -> np.ndarray:
        words = by_input.reshape(len(by_input), -1, 8)[..., AWQ_NIBBLES]
        return packed_rows(words.reshape(by_input.shape), 4)

    tensors = {
        "x.qweight": interleaved(codes.T),
        "x.qzeros": interleaved(zeros.T),
        "x.scales": scales.T,
    }
    config = {"quant_method": "awq", "bits": 4, "group_size": GROUP, "zero_point": True}
    tensor = only(opened(tmp_path, tensors, config))
    assert tensor.scheme == int4(32, zero_points=True, activation_bits=None)
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, zeros, scales))


def test_groups_are_found_by_name_before_class(tmp_path: Path) -> None:
    codes, scales = random_codes(8), random_scales(ml_dtypes.bfloat16)
    config = compressed(4)
    special = {**config["config_groups"]["group_0"], "targets": ["re:.*x$"]}
    special["weights"] = {**special["weights"], "num_bits": 8}
    config["config_groups"]["group_1"] = special
    tensor = only(opened(tmp_path, pack_quantized(codes, 8, scales), config))
    np.testing.assert_array_equal(tensor.to_float32(), values(codes, 128, scales))


def test_vivace_says_in_its_artefact_that_activations_are_rounded(tmp_path: Path) -> None:
    (tmp_path / "vivace.json").write_text('{"activation_bits": 8}')
    scales = random_scales(ml_dtypes.bfloat16)
    tensors = pack_quantized(random_codes(4), 4, scales)
    assert only(opened(tmp_path, tensors, compressed())).scheme == int4(32)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        (gptq_config(dynamic={"-:x": {}}), "one width of 2, 3, 4 or 8 bits"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, 'in the version "gemm"'),
        ({"quant_method": "compressed-tensors"}, r"quantization_config .* is damaged"),
        ({"quant_method": "gptq", "bits": 4}, r"is damaged \(KeyError: 'group_size'\)"),
    ],
)
def test_what_cannot_be_read_is_refused(
    tmp_path: Path, quantization: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        opened(tmp_path, {"y": np.zeros(2, np.float32)}, quantization)


def test_a_module_nobody_describes_and_a_matrix_in_parts(tmp_path: Path) -> None:
    tensors = pack_quantized(random_codes(4), 4, random_scales(np.float16))
    config = compressed()
    config["config_groups"]["group_0"]["targets"] = ["y"]
    with pytest.raises(CheckpointError, match="does not say how x was quantized"):
        opened(tmp_path, tensors, config)
    del tensors["x.weight_shape"]
    with pytest.raises(CheckpointError, match="x lacks its weight_shape"):
        opened(tmp_path, tensors, compressed())
