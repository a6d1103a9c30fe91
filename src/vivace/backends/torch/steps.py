"""Differentiable steps, each one piece of an op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.backends.protocol import Activation, AttentionSpec, Norm
from vivace.formats.rounding import SILENT


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """As formats.rounding.quantize_rows, in floats: codes [rows, width] and scales [rows, 1]."""
    absmax = x.abs().amax(dim=-1, keepdim=True)
    absmax = absmax.masked_fill(absmax < float(SILENT), 0)
    factor = 127 / absmax.masked_fill(absmax == 0, 1)
    return (x * factor * (absmax > 0)).round(), absmax / 127


def multiply_groups(x: Tensor, codes: Tensor, scales: Tensor, group_size: int | None) -> Tensor:
    """x [rows, in] times weights codes * scales, whose inputs share a scale in groups: sums in
    float64, rounded to float32 once a group."""
    size = group_size or x.shape[1]
    rows, weights = (torch.split(tensor, size, dim=1) for tensor in (x.double(), codes))
    total = torch.zeros(len(x), len(codes), device=x.device)
    for part, columns, scale in zip(rows, weights, scales.T, strict=True):
        total = torch.addcmul(total, (part @ columns.T).float(), scale)
    return total


def normalize(x: Tensor, norm: Norm) -> Tensor:
    """RMSNorm or LayerNorm over the last axis, in float32."""
    x, weight = x.float(), norm.weight.value
    bias = None if norm.bias is None else norm.bias.value
    if norm.kind == "layer":
        return F.layer_norm(x, weight.shape, weight, bias, norm.eps)
    y = F.rms_norm(x, weight.shape, weight, norm.eps)
    return y if bias is None else y + bias


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


_PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": F.relu,
}


def activate(x: Tensor, activation: Activation) -> Tensor:
    """See `Activation`; a gated one halves the width."""
    if not activation.gated:
        return _PLAIN[activation.kind](x)
    gate, up = x.chunk(2, dim=-1)
    if activation.kind != "swiglu_clamped":
        return _PLAIN[activation.kind](gate) * up
    gate = gate.clamp(max=activation.limit)
    up = up.clamp(-activation.limit, activation.limit)
    return gate * torch.sigmoid(activation.alpha * gate) * (up + 1)


def cap(x: Tensor, softcap: float | None) -> Tensor:
    """softcap * tanh(x / softcap)."""
    return x if softcap is None else softcap * torch.tanh(x / softcap)


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (i, i + dim/2) of the first dim = 2 * cos.shape[-1] values.

    x is [T, heads, head_dim], cos and sin are [T, 1, dim/2].
    """
    half = cos.shape[-1]
    first, second, rest = torch.split(x, [half, half, x.shape[-1] - 2 * half], dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], dim=-1)


@dataclass(frozen=True)
class Segment:
    """Some of what n rows see.

    Attributes:
        q: [..., heads, n, head_dim], turned as they meet these keys.
        k, v: [..., kv_heads, m, head_dim]; heads / kv_heads queries share one.
        visible: [n, m].
    """

    q: Tensor
    k: Tensor
    v: Tensor
    visible: Tensor

    def scores(self, spec: AttentionSpec) -> Tensor:
        """[..., heads, n, m]"""
        group = spec.num_heads // spec.num_kv_heads
        k = self.k.float().repeat_interleave(group, dim=-3)
        scores = cap(self.q.float() @ k.transpose(-1, -2) * spec.scale, spec.softcap)
        return scores.masked_fill(~self.visible, -torch.inf)


def attend(segments: Sequence[Segment], spec: AttentionSpec, sinks: Tensor | None) -> Tensor:
    """Attention over all of the segments together, with everything a layer may ask for, in float32.

    Args:
        sinks: [heads], or None.

    Returns:
        [..., heads, n, head_dim]
    """
    scores = torch.cat([segment.scores(spec) for segment in segments], dim=-1)
    v = torch.cat([segment.v.float() for segment in segments], dim=-2)
    v = v.repeat_interleave(spec.num_heads // spec.num_kv_heads, dim=-3)
    if sinks is None:
        return scores.softmax(dim=-1) @ v
    column = sinks[:, None, None].expand(*scores.shape[:-1], 1)
    weights = torch.cat([scores, column], dim=-1).softmax(dim=-1)
    return weights[..., :-1] @ v


def attend_causal(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Plain causal attention of whole sequences; shapes as in `attend`, n equal to m."""
    group = q.shape[-3] // k.shape[-3]
    k, v = (x.repeat_interleave(group, dim=-3) for x in (k, v))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)


def route(logits: Tensor, top_k: int, renormalize: bool) -> tuple[Tensor, Tensor]:
    """The `top_k` experts of each row and their weights, [T, top_k] both; ties: lower index."""
    probabilities = logits.float().softmax(dim=-1)
    weights, chosen = probabilities.sort(dim=-1, descending=True, stable=True)
    weights, chosen = weights[:, :top_k], chosen[:, :top_k]
    if renormalize:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return chosen, weights
