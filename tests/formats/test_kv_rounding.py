"""Packed keys and values, against what the format promises."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace.formats.kv_format import (
    INT4_KV,
    INT8_KV,
    KV_BLOCK_TOKENS,
    KV_FORMATS,
    KVFormat,
    head_layout,
    page_bytes,
)
from vivace.formats.kv_rounding import pack_blocks, round_keys, round_values, unpack_blocks

pytestmark = pytest.mark.tiny

EVERY = pytest.mark.parametrize("format", KV_FORMATS.values(), ids=KV_FORMATS)
HEAD_DIMS = [2, 12, 32, 40, 64, 128]


def block(seed: int, head_dim: int = 64, scale: float = 1.0, heads: int = 2) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((3, KV_BLOCK_TOKENS, heads, head_dim))
    return (scale * values).astype(np.float32)


def there_and_back(
    keys: np.ndarray, values: np.ndarray, format: KVFormat
) -> tuple[np.ndarray, np.ndarray]:
    return unpack_blocks(pack_blocks(keys, values, format), format, keys.shape[-1])


@pytest.mark.parametrize("head_dim", [64, 128])
def test_bytes_are_those_of_the_bars(head_dim: int) -> None:
    """At a context of 4,096, scales and the block in bfloat16 counted."""
    blocks = 4096 // KV_BLOCK_TOKENS
    plain = 2 * 2 * head_dim * KV_BLOCK_TOKENS
    for format, least in ((INT8_KV, 1.85), (INT4_KV, 3.2)):
        far = page_bytes(format, 1, head_dim)
        assert blocks * plain / (blocks * far + plain) > least


@EVERY
@given(
    head_dim=st.sampled_from(HEAD_DIMS),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e4, 1e20]),
    shift=st.sampled_from([0.0, 3.0, -40.0]),
)
@settings(max_examples=25, deadline=None)
def test_errors_are_at_most_half_a_step(
    format: KVFormat, head_dim: int, seed: int, scale: float, shift: float
) -> None:
    """And what rounding a scale to bfloat16 costs at the end of a range of 15 steps."""
    most = 0.5 + 15 / 256
    keys = block(seed, head_dim, scale) + np.float32(scale * shift)
    values = block(seed + 1, head_dim, scale)
    unpacked_keys, unpacked_values = there_and_back(keys, values, format)
    key_step = np.abs(keys).max(axis=1, keepdims=True) / 127
    if format.bits == 4:
        key_step = np.maximum(key_step, np.ptp(keys, axis=1, keepdims=True) / 15)
    value_step = np.abs(values).max(axis=-1, keepdims=True) / (7.5 if format.bits == 4 else 127)
    assert (np.abs(unpacked_keys - keys) <= most * key_step).all()
    assert (np.abs(unpacked_values - values) <= most * value_step).all()


@EVERY
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_what_the_codes_hold_comes_back_exactly(format: KVFormat, head_dim: int) -> None:
    largest = 127 if format.bits == 8 else 7
    rng = np.random.default_rng(head_dim)
    shape = (KV_BLOCK_TOKENS, 2, head_dim)
    keys, values = rng.integers(-largest, largest + 1, (2, *shape)).astype(np.float32)
    keys[0], keys[1] = largest, -largest
    values[..., ::32] = largest
    if format.bits == 4:
        keys[1] = -8
        values[..., ::32] = 7.5  # for a scale of one: it is clipped
    unpacked_keys, unpacked_values = there_and_back(keys / 64, values / 64, format)
    np.testing.assert_array_equal(unpacked_keys, keys / 64)
    np.testing.assert_array_equal(unpacked_values, np.where(values == 7.5, 7, values) / 64)


@EVERY
def test_no_blocks_are_no_bytes(format: KVFormat) -> None:
    keys, values = there_and_back(block(0)[:0], block(0)[:0], format)
    assert keys.shape == values.shape == (0, KV_BLOCK_TOKENS, 2, 64)


@EVERY
def test_groups_of_one_value_and_of_none(format: KVFormat) -> None:
    keys, values = np.zeros((2, KV_BLOCK_TOKENS, 1, 64), np.float32)
    keys[..., 1], keys[..., 2] = 0.3, -1e6
    values[1], values[2] = 0.3, -7
    unpacked_keys, unpacked_values = there_and_back(keys, values, format)
    np.testing.assert_allclose(unpacked_keys, keys, rtol=0.005)
    np.testing.assert_allclose(unpacked_values, values, rtol=0.005 if format.bits == 8 else 0.08)
    assert (unpacked_keys[..., 0] == 0).all()
    assert (unpacked_values[0] == 0).all()


@EVERY
def test_an_outlying_channel_costs_the_others_nothing(format: KVFormat) -> None:
    """Which is why keys are rounded per channel."""
    keys = block(1)
    plain = there_and_back(keys, keys, format)[0]
    keys[..., 5] += 100
    outlying = there_and_back(keys, keys, format)[0]
    others = np.arange(64) != 5
    np.testing.assert_array_equal(outlying[..., others], plain[..., others])


@EVERY
def test_a_token_costs_other_tokens_values_nothing(format: KVFormat) -> None:
    """Which is why values are rounded per token."""
    values = block(2)
    plain = there_and_back(values, values, format)[1]
    values[:, 7] *= 1000
    loud = there_and_back(values, values, format)[1]
    others = np.arange(KV_BLOCK_TOKENS) != 7
    np.testing.assert_array_equal(loud[:, others], plain[:, others])


@EVERY
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_so_and_alone(format: KVFormat, poison: float) -> None:
    keys, values = block(3), block(4)
    keys[0, 5, 0, 3] = values[0, 9, 1, 60] = poison
    unpacked_keys, unpacked_values = there_and_back(keys, values, format)
    assert np.isnan(unpacked_keys[0, :, 0, 3]).all()
    assert np.isnan(unpacked_values[0, 9, 1, 60])
    assert np.isnan(unpacked_keys).sum() == KV_BLOCK_TOKENS
    assert np.isnan(unpacked_values).sum() == (64 if format.bits == 8 else 32)


@EVERY
@pytest.mark.parametrize("head_dim", HEAD_DIMS)
def test_bytes_stand_where_the_format_says(format: KVFormat, head_dim: int) -> None:
    """The oracle of native code: read byte by byte, from the page's description alone."""
    keys, values = block(5, head_dim)[0], block(6, head_dim)[0]
    packed = pack_blocks(keys, values, format)
    layout = head_layout(format, head_dim)
    assert packed.shape == (2, layout.num_bytes)
    assert layout.num_bytes % 64 == 0
    head = packed[1]
    unpacked_keys, unpacked_values = unpack_blocks(packed, format, head_dim)
    for token, channel in ((0, 0), (17, head_dim - 1), (31, head_dim // 2)):
        scale = head[layout.key_scales].view(ml_dtypes.bfloat16)[channel]
        code, zero = code_at(head[layout.key_codes], 32 * channel + token, format), -128
        if format.bits == 4:
            zero = int(head[layout.key_zeros].view(np.int8)[channel])
        assert unpacked_keys[token, 1, channel] == np.float32(code + zero) * np.float32(scale)
        width = -(-head_dim // 32) * 32
        groups = 1 if format.bits == 8 else width // 32
        group = 0 if format.bits == 8 else channel // 32
        scale = head[layout.value_scales].view(ml_dtypes.bfloat16)[token * groups + group]
        code = code_at(head[layout.value_codes], width * token + channel, format)
        code -= 128 if format.bits == 8 else 8
        assert unpacked_values[token, 1, channel] == np.float32(code) * np.float32(scale)


def code_at(stored: np.ndarray, index: int, format: KVFormat) -> int:
    if format.bits == 8:
        return int(stored[index])
    run, place = divmod(index, 32)
    return int(stored[16 * run + place % 16]) >> (4 if place >= 16 else 0) & 15


def test_keys_of_few_bits_keep_the_ends_of_their_range() -> None:
    keys = np.linspace(2, 5, KV_BLOCK_TOKENS, dtype=np.float32)[None]
    rounded = round_keys(keys, INT4_KV)
    assert rounded.scales.item() == pytest.approx(0.2, rel=0.004)
    assert (rounded.zeros.item(), rounded.codes.min(), rounded.codes.max()) == (10, 0, 15)


def test_more_bits_err_less_and_so_does_the_right_axis() -> None:
    keys = block(7) * np.linspace(0.1, 10, 64, dtype=np.float32)
    errors = {
        format.name: np.square(there_and_back(keys, keys, format)[0] - keys).mean()
        for format in KV_FORMATS.values()
    }
    assert errors["int8"] < errors["int4"]
    per_token = round_values(np.moveaxis(keys, 1, 2)[..., None, :], INT8_KV).values()
    error = np.square(per_token[..., 0, :] - np.moveaxis(keys, 1, 2)).mean()
    assert errors["int8"] < error
