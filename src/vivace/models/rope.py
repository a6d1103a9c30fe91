"""Rotary frequencies: each scaling kind is a choice of numbers, fixed at load.

Numbers are those of Transformers run at a length equal to what a row sees (`max_model_len`, but
where long contexts evict), in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import RotarySpec
from vivace.core.errors import CheckpointError
from vivace.models.config import Config

Frequencies = NDArray[np.float32]
_PART = "partial_rotary_factor"
_Scaled = tuple[Frequencies, float]


@dataclass(frozen=True)
class Rope:
    """Rotary settings in one form, whichever style config.json is in.

    Attributes:
        kind: "default" or a scaling kind.
        theta: base of the wavelengths.
        dim: how many first values of a head turn.
        trained_len: max_position_embeddings.
        seen_len: the length that length-dependent factors are fixed for.
        parameters: of the scaling kind.
    """

    kind: str
    theta: float
    dim: int
    trained_len: int
    seen_len: int
    parameters: Mapping[str, Any]

    def number(self, key: str) -> float:
        return _number(self.parameters, key)

    def optional_number(self, key: str) -> float | None:
        return None if self.parameters.get(key) is None else self.number(key)

    @property
    def original_len(self) -> float:
        """The length before the context was extended."""
        return self.optional_number("original_max_position_embeddings") or self.trained_len

    @property
    def extended_len(self) -> int:
        """The length that the model is for. Most checkpoints give it as max_position_embeddings;
        some leave that at the original length and add a factor, as Qwen 2.5 does for YaRN."""
        original = self.optional_number("original_max_position_embeddings")
        factor = self.optional_number("factor")
        if original is None or factor is None:
            return self.trained_len
        return max(self.trained_len, int(original * factor))


def rope_parameters(config: Config) -> dict[str, Any]:
    """The rotary settings, flat: Transformers 5 writes `rope_parameters`, earlier ones
    `rope_theta` and `rope_scaling`; the nested form wins where both give a value."""
    config_wide = {
        key: config.values[key]
        for key in ("rope_theta", _PART)
        if config.values.get(key) is not None
    }
    parameters = config_wide | dict(
        config.mapping("rope_scaling") or config.mapping("rope_parameters")
    )
    # Where Phi-3 and others give it at the top level, that one wins.
    original = config.optional_size("original_max_position_embeddings")
    if original is not None:
        parameters["original_max_position_embeddings"] = original
    return parameters


def rotary_spec(config: Config, parameters: Mapping[str, Any], head_dim: int) -> RotarySpec:
    """Frequencies for flat `parameters`; an odd part of a head is rounded up to whole pairs."""
    rope = Rope(
        kind=str(parameters.get("rope_type") or parameters.get("type") or "default"),
        theta=_number(parameters, "rope_theta"),
        dim=int(head_dim * _number({_PART: 1.0, **parameters}, _PART)),
        trained_len=config.integer("max_position_embeddings"),
        seen_len=config.seen_len,
        parameters=parameters,
    )
    if rope.kind not in _KINDS:
        raise CheckpointError(
            f"Rotary scaling {rope.kind!r} is unknown; known are {', '.join(_KINDS)}."
        )
    if rope.kind not in _LENGTH_DEPENDENT:
        config.check_length(rope.seen_len, rope.extended_len)
    frequencies, scale = _scaled(rope)
    return RotarySpec(tuple(frequencies.tolist()), scale, config.max_model_len)


def _number(parameters: Mapping[str, Any], key: str) -> float:
    value = parameters.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CheckpointError(f"{key} of the rotary settings must be a number, got {value!r}.")
    if not value > 0:
        raise CheckpointError(f"{key} of the rotary settings must be above 0, got {value!r}.")
    return value


def _scaled(rope: Rope) -> _Scaled:
    """Numbers that are fine one by one may still not go together: theta 1 has no logarithm."""
    try:
        with np.errstate(divide="raise", invalid="raise"):
            return _KINDS[rope.kind](rope)
    except (ArithmeticError, ValueError) as error:
        raise CheckpointError(
            f"The rotary settings in config.json give no frequencies ({error}): "
            f"{dict(rope.parameters)}."
        ) from error


def _wavelength_bases(theta: float, dim: int) -> Frequencies:
    """theta ** (2i / dim): how many positions pair i takes for one radian."""
    exponents = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    bases: Frequencies = np.power(theta, exponents, dtype=np.float32)
    return bases


def _default(rope: Rope) -> _Scaled:
    return np.reciprocal(_wavelength_bases(rope.theta, rope.dim)), 1.0


def _linear(rope: Rope) -> _Scaled:
    """Positions divided by the factor."""
    frequencies, scale = _default(rope)
    return frequencies / np.float32(rope.number("factor")), scale


def _dynamic(rope: Rope) -> _Scaled:
    """NTK scaling: the base grows with the length."""
    factor = rope.number("factor")
    ratio = max(rope.seen_len, rope.trained_len) / rope.trained_len
    growth = (factor * ratio - (factor - 1)) ** (rope.dim / (rope.dim - 2))
    return np.reciprocal(_wavelength_bases(rope.theta * growth, rope.dim)), 1.0


def _llama3(rope: Rope) -> _Scaled:
    """Long waves slow down by the factor, short ones stay, those between are blended."""
    factor = np.float32(rope.number("factor"))
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    frequencies, scale = _default(rope)
    waves_in_context = np.float32(rope.original_len) * frequencies / np.float32(2 * math.pi)
    kept = np.clip((waves_in_context - low) / (high - low), 0, 1).astype(np.float32)
    return (1 - kept) * frequencies / factor + kept * frequencies, scale


def _yarn(rope: Rope) -> _Scaled:
    """YaRN, https://arxiv.org/abs/2309.00071: interpolate the pairs that turn few times in the
    original context, keep those that turn often, ramp between."""
    factor = rope.optional_number("factor") or rope.trained_len / rope.original_len
    frequencies, _ = _default(rope)
    low = _yarn_pair(rope, rope.optional_number("beta_fast") or 32.0)
    high = _yarn_pair(rope, rope.optional_number("beta_slow") or 1.0)
    if rope.parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    width = high - low or 0.001
    ramp = np.clip((np.arange(len(frequencies), dtype=np.float32) - low) / width, 0, 1)
    slowed = ramp.astype(np.float32)
    scaled = frequencies / np.float32(factor) * slowed + frequencies * (1 - slowed)
    return scaled, _yarn_scale(rope, factor)


def _yarn_pair(rope: Rope, turns: float) -> float:
    """Which pair turns so often in the original context."""
    waves = math.log(rope.original_len / (turns * 2 * math.pi))
    return rope.dim * waves / (2 * math.log(rope.theta))


def _yarn_scale(rope: Rope, factor: float) -> float:
    given = rope.optional_number("attention_factor")
    if given is not None:
        return given
    mscale, all_dim = rope.optional_number("mscale"), rope.optional_number("mscale_all_dim")
    if mscale and all_dim:
        return _log_scale(factor, mscale) / _log_scale(factor, all_dim)
    return _log_scale(factor, 1.0)


def _log_scale(factor: float, mscale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _longrope(rope: Rope) -> _Scaled:
    """LongRoPE, https://arxiv.org/abs/2402.13753: a searched factor per pair, one list for
    lengths up to the original one and one for longer."""
    key = "long_factor" if rope.seen_len > rope.original_len else "short_factor"
    bases = _wavelength_bases(rope.theta, rope.dim)
    factors = rope.parameters.get(key)
    if not isinstance(factors, list) or len(factors) != len(bases):
        raise CheckpointError(f"{key} of the rotary settings must list {len(bases)} numbers.")
    return np.reciprocal(np.asarray(factors, dtype=np.float32) * bases), _longrope_scale(rope)


def _longrope_scale(rope: Rope) -> float:
    given = rope.optional_number("attention_factor")
    if given is not None:
        return given
    factor = rope.optional_number("factor") or rope.trained_len / rope.original_len
    if factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(rope.original_len))


_KINDS: dict[str, Callable[[Rope], _Scaled]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}

_LENGTH_DEPENDENT = ("dynamic", "longrope")  # the numbers follow the length
