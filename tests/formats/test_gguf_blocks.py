"""Every type's values are those of llama.cpp's own Python package, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from vivace.formats.gguf.blocks import TYPES, TensorType, bit_planes, dequantize

BLOCK_TYPES = {name: kind for kind in TYPES.values() if kind.decode for name in [kind.name]}
SCALES = ("d", "m", "dmin")


def blocks_of(kind: TensorType, rows: int, per_row: int, seed: int = 0) -> np.ndarray:
    """Random codes; scales over float16's whole range, its least and largest values among them."""
    rng = np.random.default_rng(seed)
    raw = rng.integers(0, 256, (rows, per_row * kind.block.itemsize), np.uint8)
    blocks = raw.view(kind.block)
    extremes = np.asarray([0.0, -0.0, 6e-8, -6e-8, 65504, -65504, 1, 6.1e-5])
    for field in set(SCALES) & set(kind.block.names or ()):
        chosen = rng.normal(0, 0.02, blocks.shape)
        chosen[:, 0] = rng.choice(extremes, rows)
        blocks[field] = chosen
    return raw


@pytest.mark.oracle
@pytest.mark.parametrize("name", BLOCK_TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (40, 2)])
def test_values_are_those_of_the_oracle(name: str, shape: tuple[int, int]) -> None:
    gguf = pytest.importorskip("gguf")
    kind = BLOCK_TYPES[name]
    if name == "Q8_K":
        pytest.skip("the oracle does not know it")
    raw = blocks_of(kind, *shape)
    expected = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType[name])
    found = dequantize(raw, kind)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.oracle
@pytest.mark.parametrize("name", BLOCK_TYPES)
def test_blocks_are_as_large_as_the_oracles(name: str) -> None:
    gguf = pytest.importorskip("gguf")
    kind = BLOCK_TYPES[name]
    values, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    assert (kind.values, kind.block.itemsize) == (values, size)
    assert TYPES[gguf.GGMLQuantizationType[name]] is kind


@pytest.mark.tiny
def test_q8_k_is_codes_times_a_scale() -> None:
    kind = BLOCK_TYPES["Q8_K"]
    assert kind.block.itemsize == 4 + 256 + 2 * 16
    blocks = np.zeros((2, 1), kind.block)
    blocks["d"] = [[0.5], [-3]]
    blocks["codes"] = np.arange(-128, 128, dtype=np.int8)
    expected = np.outer([0.5, -3], np.arange(-128, 128)).astype(np.float32)
    np.testing.assert_array_equal(dequantize(blocks.view(np.uint8), kind), expected)


@pytest.mark.tiny
def test_bit_planes_by_hand() -> None:
    packed = np.asarray([[0x21, 0x43, 0x65, 0x87]], np.uint8)
    assert bit_planes(packed, 2, 4).tolist() == [[1, 3, 2, 4, 5, 7, 6, 8]]
    assert bit_planes(np.asarray([[0b11100100]], np.uint8), 1, 2).tolist() == [[0, 1, 2, 3]]
    assert bit_planes(np.asarray([[0b101]], np.uint8), 1, 1).tolist() == [[1, 0, 1, 0, 0, 0, 0, 0]]


@pytest.mark.tiny
def test_many_rows_are_taken_some_at_a_time() -> None:
    kind = BLOCK_TYPES["Q8_0"]
    raw = blocks_of(kind, 5000, 9)  # 1.4 million values
    whole = dequantize(raw, kind)
    assert whole.shape == (5000, 288)
    np.testing.assert_array_equal(whole[4321:4323], dequantize(raw[4321:4323], kind))


@pytest.mark.tiny
def test_rows_must_have_whole_blocks() -> None:
    assert BLOCK_TYPES["Q4_K"].row_bytes(512) == 288
    with pytest.raises(ValueError, match="no multiple of Q4_K's 256"):
        BLOCK_TYPES["Q4_K"].row_bytes(128)
