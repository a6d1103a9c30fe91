"""Rotary numbers by hand, without Transformers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from vivace.backends.protocol import RotarySpec
from vivace.core.errors import CheckpointError, UsageError
from vivace.models.config import Config
from vivace.models.rope import rope_parameters, rotary_spec

pytestmark = pytest.mark.tiny

TRAINED, HEAD_DIM = 64, 8
PLAIN = [1.0, 0.1, 0.01, 0.001]  # 10000 ** (-2i / 8)


def rotary(max_model_len: int = TRAINED, **values: Any) -> RotarySpec:
    values = {"rope_theta": 10000.0, "max_position_embeddings": TRAINED, **values}
    config = Config(values, max_model_len)
    return rotary_spec(config, rope_parameters(config), HEAD_DIM)


def test_default() -> None:
    spec = rotary(33)
    np.testing.assert_allclose(spec.inv_freq, PLAIN, rtol=1e-6)
    assert (spec.scale, spec.max_positions) == (1.0, 33)


def test_linear() -> None:
    spec = rotary(rope_scaling={"type": "linear", "factor": 4.0})
    np.testing.assert_allclose(spec.inv_freq, np.array(PLAIN) / 4, rtol=1e-6)


def test_dynamic_grows_with_the_length_only_past_the_trained_one() -> None:
    scaling = {"rope_type": "dynamic", "factor": 2.0}
    np.testing.assert_allclose(rotary(TRAINED, rope_scaling=scaling).inv_freq, PLAIN, rtol=1e-6)
    # Twice the length: 2 * 2 - 1 = 3, and the last frequency falls by 3 ** (8/6 * 6/8) = 3.
    spec = rotary(2 * TRAINED, rope_scaling=scaling)
    np.testing.assert_allclose(spec.inv_freq[0], 1.0)
    np.testing.assert_allclose(spec.inv_freq[-1], PLAIN[-1] / 3, rtol=1e-6)


def test_llama3_keeps_short_waves_and_slows_long_ones() -> None:
    spec = rotary(
        rope_scaling={
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 100,
        }
    )
    # Waves in 100 positions: 15.9, 1.59, 0.159, 0.0159; the second is blended.
    kept = (100 * 0.1 / (2 * math.pi) - 1) / 3
    expected = [1.0, 0.1 * (kept + (1 - kept) / 8), 0.01 / 8, 0.001 / 8]
    np.testing.assert_allclose(spec.inv_freq, expected, rtol=1e-5)


def test_yarn_scales_attention_by_the_log_of_its_factor() -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    spec = rotary(rope_scaling=scaling)
    assert spec.scale == pytest.approx(0.1 * math.log(4) + 1)
    assert spec.inv_freq[0] == pytest.approx(1.0)
    assert spec.inv_freq[-1] == pytest.approx(PLAIN[-1] / 4)
    assert rotary(rope_scaling=scaling | {"attention_factor": 0.5}).scale == 0.5


def test_longrope_chooses_by_length() -> None:
    scaling = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    values = {"rope_scaling": scaling, "original_max_position_embeddings": 16}
    np.testing.assert_allclose(rotary(16, **values).inv_freq, PLAIN, rtol=1e-6)
    long = rotary(17, **values)
    np.testing.assert_allclose(long.inv_freq, np.array(PLAIN) / 2, rtol=1e-6)
    assert long.scale == pytest.approx(math.sqrt(1 + math.log(4) / math.log(16)))


def test_the_new_style_is_the_old_one_nested() -> None:
    scaling = {"factor": 4.0, "rope_theta": 500.0}
    new = rotary(rope_parameters={**scaling, "rope_type": "linear"})
    old = rotary(rope_theta=500.0, rope_scaling={"factor": 4.0, "type": "linear"})
    assert new == old


def test_an_odd_part_of_a_head_is_rounded_up_to_pairs() -> None:
    assert len(rotary(partial_rotary_factor=0.65).inv_freq) == 3


@pytest.mark.parametrize(
    ("scaling", "longest"),
    [
        (None, TRAINED),
        ({"rope_type": "linear", "factor": 4.0}, TRAINED),
        # Left at the original length in config.json, as Qwen 2.5 does.
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED},
            4 * TRAINED,
        ),
        (
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": TRAINED // 4},
            TRAINED,
        ),
    ],
)
def test_a_length_past_the_trained_one_is_refused(
    scaling: dict[str, Any] | None, longest: int
) -> None:
    assert rotary(longest, rope_scaling=scaling).max_positions == longest
    with pytest.raises(UsageError, match=f"past the {longest} positions"):
        rotary(longest + 1, rope_scaling=scaling)


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        ({"rope_type": "dynamic", "factor": 0}, "factor of the .* must be above 0, got 0"),
        ({"rope_type": "dynamic", "factor": -5.0}, "factor of the .* must be above 0, got -5"),
        (
            {"rope_type": "dynamic", "factor": 2.0, "partial_rotary_factor": 0.25},
            "give no frequencies",
        ),
        ({"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}, "give no frequencies"),
        (
            {"rope_type": "longrope", "short_factor": [1.0, 1.0, "x", 1.0]},
            "give no frequencies",
        ),
        ({"rope_type": "mrope"}, "Rotary scaling 'mrope' is unknown; known are default, linear"),
        ({"rope_type": "linear"}, "factor of the rotary settings must be a number, got None"),
        ({"rope_type": "linear", "factor": "x"}, "factor of the rotary settings must be a number"),
        (
            {"rope_type": "longrope", "short_factor": [1.0], "long_factor": [1.0]},
            "short_factor of the rotary settings must list 4 numbers",
        ),
    ],
)
def test_wrong_settings(scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        rotary(rope_scaling=scaling)
