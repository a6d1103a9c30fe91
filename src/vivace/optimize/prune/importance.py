"""How much each part of a model does, by what calibration text makes of it.

Channels, neurons and heads: the share of a linear's output energy that comes through them, an
activation importance as in Muralidharan et al., "Compact Language Models via Pruning and Knowledge
Distillation" (2024), weighted by what reads the activations. Layers: block influence, of Men et
al., "ShortGPT" (2024).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vivace.optimize.layer import WorkingLayer
from vivace.optimize.observe import Floats


@dataclass(frozen=True)
class LayerImportance:
    """Attributes:
    influence: 1 less the cosine of the hidden states before and after the layer.
    channels: [hidden_size], of the hidden states.
    heads: [num_heads], of queries.
    neurons: [intermediate_size], of the MLP.
    """

    influence: float
    channels: Floats
    heads: Floats
    neurons: Floats


def measure(layer: WorkingLayer) -> LayerImportance:
    """Of a layer as it is; the hidden states become those after it."""
    assert layer.states is not None
    head_dim = layer.spec.layers[layer.index].attention.head_dim
    sizes = {"attention.qkv": 1, "mlp.up": 1, "attention.out": head_dim, "mlp.down": 1}
    shares = {
        name: energy_shares(layer.weights(name), layer.statistics(name).gram, size)
        for name, size in sizes.items()
    }
    before = list(layer.states.chunks)
    layer.advance()
    influence = block_influence(zip(before, layer.states.chunks, strict=True))
    channels = shares["attention.qkv"] + shares["mlp.up"]
    return LayerImportance(influence, channels, shares["attention.out"], shares["mlp.down"])


def energy_shares(weights: Floats, gram: Floats, size: int = 1) -> Floats:
    """[in / size]: the mean square of the outputs that each `size` neighbouring inputs make by
    themselves, over that of all outputs.

    Args:
        weights: [out, in].
        gram: X'X [in, in] of the inputs X.
    """
    columns = weights.astype(np.float64).reshape(len(weights), -1, size).transpose(1, 0, 2)
    count = columns.shape[0]
    blocks = gram.reshape(count, size, count, size)[np.arange(count), :, np.arange(count)]
    energies = np.einsum("goi,gij,goj->g", columns, blocks, columns, optimize=True)
    whole = np.einsum("oi,ij,oj->", weights, gram, weights, optimize=True)
    shares: Floats = (energies / max(float(whole), np.finfo(np.float64).tiny)).astype(np.float32)
    return shares


def block_influence(chunks: Iterable[tuple[Floats, Floats]]) -> float:
    """1 less the mean cosine of hidden states before and after, [tokens, hidden] each."""
    cosines = [
        (x * y).sum(axis=1) / (np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1))
        for x, y in chunks
    ]
    return 1 - float(np.concatenate(cosines).mean())


def most_important(importance: Floats, count: int) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """The places of the `count` largest, in their order; of equals the first."""
    chosen = np.argsort(-importance, kind="stable")[:count]
    return np.sort(chosen)
