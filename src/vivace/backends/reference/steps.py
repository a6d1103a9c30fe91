"""Plain numpy steps in float32, each the definition of one piece of an op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.backends.protocol import Activation, Norm

Floats = NDArray[np.float32]


def multiply_groups(
    x: NDArray[Any], codes: NDArray[np.float64], scales: Floats, group_size: int | None
) -> Floats:
    """x [rows, in] times weights codes * scales, whose inputs share a scale in groups.

    A group's sum is rounded to float32 once (sums of integers are exact before); groups are added
    in ascending order, each by one fused multiply-add.
    """
    x = x.astype(np.float64)
    total = np.zeros((len(x), len(codes)), np.float32)
    for group, start in enumerate(range(0, x.shape[1], group_size or x.shape[1])):
        part = slice(start, start + group_size if group_size else None)
        sums = (x[:, part] @ codes[:, part].T).astype(np.float32)
        total = _fused(sums, scales[:, group], total)
    return total


def _fused(a: Floats, b: Floats, c: Floats) -> Floats:
    """a * b + c with one rounding: float64 holds the product, and the sum but for rare ties."""
    return (a.astype(np.float64) * b + c).astype(np.float32)


def normalize(x: Floats, norm: Norm) -> Floats:
    """RMSNorm or LayerNorm over the last axis."""
    if norm.kind == "layer":
        x = x - x.mean(axis=-1, keepdims=True)
    power = np.square(x).mean(axis=-1, keepdims=True)
    y: Floats = x / np.sqrt(power + np.float32(norm.eps)) * norm.weight
    if norm.bias is not None:
        y = y + norm.bias
    return y


def sigmoid(x: Floats) -> Floats:
    """Stable for large |x|: exp is only taken of values at most 0."""
    small = np.exp(-np.abs(x))
    one = np.float32(1)
    result: Floats = np.where(x >= 0, one, small) / (one + small)
    return result


def _erf(x: Floats) -> Floats:
    """The error function, to 1.2e-7 (Numerical Recipes' Chebyshev fit of erfc)."""
    coefficients = (
        -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806,
        0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277,
    )  # fmt: skip
    z = np.abs(x.astype(np.float64))
    t = 1 / (1 + z / 2)
    erfc = t * np.exp(-z * z + np.polynomial.polynomial.polyval(t, coefficients))
    result: Floats = (np.sign(x) * (1 - erfc)).astype(np.float32)
    return result


def _gelu(x: Floats) -> Floats:
    one = np.float32(1)
    result: Floats = x / 2 * (one + _erf(x * np.float32(np.sqrt(0.5))))
    return result


def _gelu_tanh(x: Floats) -> Floats:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
    result: Floats = x / 2 * (1 + np.tanh(inner))
    return result


def _silu(x: Floats) -> Floats:
    return x * sigmoid(x)


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


_PLAIN: dict[str, Callable[[Floats], Floats]] = {
    "silu": _silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": _relu,
}


def activate(x: Floats, activation: Activation) -> Floats:
    """See `Activation`; a gated one halves the width."""
    if not activation.gated:
        return _PLAIN[activation.kind](x)
    gate, up = np.split(x, 2, axis=-1)
    if activation.kind != "swiglu_clamped":
        return _PLAIN[activation.kind](gate) * up
    gate = np.minimum(gate, activation.limit)
    up = np.clip(up, -activation.limit, activation.limit)
    return gate * sigmoid(np.float32(activation.alpha) * gate) * (up + 1)


def cap(x: Floats, softcap: float | None) -> Floats:
    """softcap * tanh(x / softcap)."""
    if softcap is None:
        return x
    result: Floats = np.float32(softcap) * np.tanh(x / np.float32(softcap))
    return result


def turn(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Rotate pairs (i, i + dim/2) of the first dim = 2 * cos.shape[-1] values.

    x is [T, heads, head_dim], cos and sin are [T, dim/2].
    """
    half = cos.shape[-1]
    first, second, rest = np.split(x, [half, 2 * half], axis=-1)
    cos, sin = cos[:, None], sin[:, None]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin, rest], axis=-1)


@dataclass(frozen=True)
class Segment:
    """Some of what n rows of a sequence see.

    Attributes:
        q: scaled queries [n, heads, head_dim], turned as they meet these keys.
        k, v: [m, kv_heads, head_dim]; heads / kv_heads queries share one.
        visible: [n, m].
    """

    q: Floats
    k: Floats
    v: Floats
    visible: NDArray[np.bool_]

    def scores(self, softcap: float | None) -> Floats:
        """[heads, n, m]"""
        k = np.repeat(self.k, self.q.shape[1] // self.k.shape[1], axis=1)
        scores = cap(np.einsum("nhd,mhd->hnm", self.q, k, optimize=True), softcap)
        masked: Floats = np.where(self.visible, scores, -np.inf)
        return masked


def attend(segments: Sequence[Segment], softcap: float | None, sinks: Floats | None) -> Floats:
    """Attention of one sequence's rows over all of the segments together.

    Args:
        sinks: [heads], or None.

    Returns:
        [n, heads, head_dim]
    """
    scores = np.concatenate([segment.scores(softcap) for segment in segments], axis=-1)
    v = np.concatenate([segment.v for segment in segments])
    v = np.repeat(v, scores.shape[0] // v.shape[1], axis=1)
    top = scores.max(axis=-1, keepdims=True)
    if sinks is not None:
        top = np.maximum(top, sinks[:, None, None])
    weights = np.exp(scores - top)
    total = weights.sum(axis=-1, keepdims=True)
    if sinks is not None:
        total = total + np.exp(sinks[:, None, None] - top)
    result: Floats = np.einsum("hnm,mhd->nhd", weights / total, v, optimize=True)
    return result


def route(logits: Floats, top_k: int, renormalize: bool) -> tuple[NDArray[np.intp], Floats]:
    """The `top_k` experts of each row and their weights, [T, top_k] both; ties: lower index."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    chosen = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(probabilities, chosen, axis=-1)
    if renormalize:
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return chosen, weights
