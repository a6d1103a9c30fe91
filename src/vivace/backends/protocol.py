"""What a machine must be able to do to run a decoder: about a dozen ops, and `compile`.

Tensors are opaque handles of the backend. A forward pass is written against `Ops`, never looks
at values and never branches on them, so that it can be recorded once and compiled. Shapes below
use T tokens in the step, S sequences, R logit rows; activations are [T, width].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.backends.batch import Batch as Batch
from vivace.backends.batch import BatchLimits as BatchLimits
from vivace.backends.batch import IntArray as IntArray
from vivace.backends.batch import Observed as Observed
from vivace.backends.low_rank import AdapterRoom, LowRank
from vivace.backends.page_bytes import PageBytes
from vivace.core.collective import Collective
from vivace.core.errors import BackendError
from vivace.formats.kv_format import KV_BLOCK_TOKENS, KVFormat
from vivace.formats.qtensor import QTensor, Scheme

Tensor: TypeAlias = Any  # an activation of the backend
Vector: TypeAlias = Any  # a float32 vector of the backend: norm gains, sinks
Embedding: TypeAlias = Any  # a token or position table of the backend
Linear: TypeAlias = Any  # a packed weight (and bias) of the backend
RotaryTable: TypeAlias = Any  # cosines and sines of the backend
KVCache: TypeAlias = Any  # the pages of one KV group

PAGE_TOKENS = 16
DTypeName = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class KVSpec:
    """One layer group's KV memory. Layers of a group share one block table.

    Attributes:
        num_layers: layers in the group.
        num_kv_heads: KV heads per layer.
        head_dim: values per head.
        window: how many last positions a row sees, itself included; None sees all.
        format: how its pages are packed; None keeps them in the backend's dtype.
    """

    num_layers: int
    num_kv_heads: int
    head_dim: int
    window: int | None = None
    format: KVFormat | None = None

    @property
    def page_tokens(self) -> int:
        """Positions that a page holds."""
        return PAGE_TOKENS if self.format is None else KV_BLOCK_TOKENS


@dataclass(frozen=True)
class Norm:
    """RMSNorm: x / rms(x) * weight. LayerNorm: (x - mean) / std * weight + bias. float32 inside."""

    kind: Literal["rms", "layer"]
    weight: Vector
    eps: float
    bias: Vector | None = None


@dataclass(frozen=True)
class Activation:
    """An elementwise epilogue of a linear.

    Gated: the linear's output is [gate | up], each half as wide, and the result is
    kind(gate) * up. "swiglu_clamped" (gpt-oss, always gated): gate is clamped from above and up
    on both sides by `limit`; the result is gate * sigmoid(alpha * gate) * (up + 1).
    """

    kind: Literal["silu", "gelu", "gelu_tanh", "relu", "swiglu_clamped"]
    gated: bool
    limit: float = 7.0
    alpha: float = 1.702


@dataclass(frozen=True)
class RotarySpec:
    """Rotary positions: pair (i, i + dim/2) turns by position * inv_freq[i].

    Lengths are fixed at load, so every scaling kind is only a choice of these numbers.

    Attributes:
        inv_freq: dim/2 values; heads turn in their first `dim` values, the rest pass through.
        scale: factor of both cosine and sine.
        max_positions: rows of the table.
    """

    inv_freq: tuple[float, ...]
    scale: float
    max_positions: int


@dataclass(frozen=True)
class FarKV:
    """Packed pages beside a layer's own, which keep only a row's own block of 32 positions.

    A row sees the positions of its own block in the layer's own group, and those of blocks before
    it in these pages: by the two positions alone.

    Attributes:
        group: the KV group of the packed pages; the layer has the same place in it.
    """

    group: int
    format: KVFormat


@dataclass(frozen=True)
class AttentionSpec:
    """One layer's attention.

    Attributes:
        scale: factor of q . k.
        window: how many last positions a row sees, itself included; None sees all. Where a
            sequence's own sight is narrower, that counts.
        softcap: scores become softcap * tanh(score / softcap), before the mask.
        kv_group: which KV group holds its pages.
        kv_layer: its place within the group.
        far: where it sees what is before its block; None for a layer that is not compressed.
    """

    num_heads: int
    num_kv_heads: int
    head_dim: int
    scale: float
    window: int | None = None
    softcap: float | None = None
    kv_group: int = 0
    kv_layer: int = 0
    far: FarKV | None = None


@dataclass(frozen=True)
class Experts:
    """A mixture of expert MLPs.

    Probabilities are softmax(router(x)) in float32; the `top_k` likeliest experts run (ties: the
    lower index), weighted by their probability, renormalised to sum 1 where `renormalize`.

    Attributes:
        up: per expert, [gate | up] for a gated activation.
        down: per expert.
    """

    router: Linear
    up: tuple[Linear, ...]
    down: tuple[Linear, ...]
    activation: Activation
    top_k: int
    renormalize: bool


@dataclass(frozen=True)
class Residual:
    """Where a block's output goes: residual + multiplier * post_norm(output)."""

    into: Tensor
    post_norm: Norm | None = None
    multiplier: float = 1.0


@dataclass(frozen=True)
class LinearForm:
    """How a linear is kept.

    Attributes:
        scheme: float parts are rounded to it, to nearest (formats.rounding); None keeps the
            backend's dtype. Parts that are quantized already keep their own.
        gated: the outputs are [gate | up] of a gated activation, and `norm_linear` with that
            activation (or an expert's `up`) is its only use: they may be interleaved.
        adapters: room for adapters, of which each part may have its own share; None has none.
            Only `norm_linear` and `linear_residual` add them.
    """

    scheme: Scheme | None = None
    gated: bool = False
    adapters: AdapterRoom | None = None


PLAIN = LinearForm()


def scheme_of_parts(parts: Sequence[QTensor], asked: Scheme | None) -> Scheme | None:
    """What one linear is kept in: its parts' own integer scheme, or the one asked for float parts;
    None is the backend's dtype.

    Raises:
        BackendError: parts that stand in one matrix have different schemes.
    """
    schemes = {asked if part.scheme.is_float else part.scheme for part in parts}
    if len(schemes) > 1:
        stored = ", ".join(f"{part.name} ({part.scheme.name})" for part in parts)
        raise BackendError(f"{stored} stand in one matrix, which needs one scheme: quantize alike.")
    return schemes.pop()


class Ops(Protocol):
    """The ops of one step. The batch is implied; `Tensor`s are [T, width]."""

    def embed(
        self, tokens: Embedding, multiplier: float = 1.0, positions: Embedding | None = None
    ) -> Tensor:
        """multiplier * tokens[token_id] (+ positions[position])."""
        ...

    def norm(self, x: Tensor, norm: Norm) -> Tensor: ...

    def norm_linear(
        self, x: Tensor, norm: Norm | None, linear: Linear, activation: Activation | None = None
    ) -> Tensor:
        """activation(linear(norm(x)))."""
        ...

    def rotary_write(
        self,
        qkv: Tensor,
        spec: AttentionSpec,
        rotary: RotaryTable | None,
        q_norm: Norm | None = None,
        k_norm: Norm | None = None,
    ) -> Tensor:
        """Split [q | k | v], norm and turn q and k, write k and v to pages; the result is for
        `attention` alone. A norm as long as a head works per head, a longer one on the whole.
        With `far`, each block that is now full is packed into its far page, once it is written.
        Keys keep the turn of their position; queries that meet sinks are turned once more, by the
        position that the cache gives them (`Sight`)."""
        ...

    def attention(
        self, queries: Tensor, spec: AttentionSpec, sinks: Vector | None = None
    ) -> Tensor:
        """Causal attention over pages: [T, heads * head_dim]. `sinks` [heads] are extra logits
        per head that take probability and give no value."""
        ...

    def linear_residual(self, x: Tensor, linear: Linear, residual: Residual) -> Tensor:
        """residual.into + multiplier * post_norm(linear(x))."""
        ...

    def experts_residual(
        self, x: Tensor, norm: Norm | None, experts: Experts, residual: Residual
    ) -> Tensor:
        """residual.into + multiplier * post_norm(experts(norm(x)))."""
        ...

    def logits(
        self, hidden: Tensor, head: Linear, multiplier: float = 1.0, softcap: float | None = None
    ) -> Tensor:
        """float32 [R, vocab] of the batch's logit rows: multiplier * head(hidden), then capped."""
        ...


Forward: TypeAlias = Callable[[Ops], Tensor]


class Program(Protocol):
    """A forward pass, ready to run step by step."""

    def run(self, batch: Batch) -> Tensor:
        """What the forward returned, for this batch. It may be overwritten by the next run."""
        ...


class Backend(Protocol):
    """One kind of machine. Weights enter once, as handles; packing happens here alone."""

    @property
    def name(self) -> str: ...

    @property
    def dtype(self) -> DTypeName:
        """What weights, matmul inputs and KV pages are kept in."""
        ...

    @property
    def numerics(self) -> str:
        """What results and the bytes of pages depend on, beside `dtype`: the same text means the
        same bits."""
        ...

    def vector(self, tensor: QTensor, offset: float = 0.0) -> Vector:
        """tensor + offset, as float32."""
        ...

    def embedding(self, tensor: QTensor, scheme: Scheme | None = None) -> Embedding:
        """A table of floats rounded to `scheme`, or kept in `dtype`; a quantized one keeps its
        own."""
        ...

    def linear(
        self,
        parts: Sequence[QTensor],
        bias: Sequence[QTensor] = (),
        collective: Collective | None = None,
        form: LinearForm = PLAIN,
    ) -> Linear:
        """Weights [out_i, in] stacked along their outputs, with biases [out_i] or none. With a
        collective, the outputs are partial sums, reduced before bias and residual."""
        ...

    def set_adapter(self, linear: Linear, slot: int, parts: Sequence[LowRank]) -> None:
        """Give rows whose adapter is in `slot`, from 1, these parts at a linear with room for it,
        kept in `dtype`; none empty the slot. Not while a program runs. Raises BackendError where
        they do not fit."""
        ...

    def rotary(self, spec: RotarySpec) -> RotaryTable: ...

    def kv_cache(self, spec: KVSpec, num_pages: int) -> KVCache:
        """Pages for one group; page 0 is a page like any other."""
        ...

    def kv_page_bytes(self, spec: KVSpec) -> int:
        """Bytes of one page over all layers of the group."""
        ...

    def copy_pages(self, cache: KVCache, sources: Sequence[int], targets: Sequence[int]) -> None:
        """Copy whole pages (copy on write)."""
        ...

    def release_pages(self, cache: KVCache, pages: Sequence[int]) -> None:
        """What is in these pages is worth nothing any more: give their memory back to the system,
        where a backend can do that with a part of a cache. They may be written again.

        Raises:
            BackendError: there is no such page.
        """
        ...

    def read_pages(self, cache: KVCache, pages: Sequence[int]) -> PageBytes:
        """A copy of whole pages over all layers, [pages, kv_page_bytes]: for `write_pages` of a
        cache of the same spec on the same backend, now or in another process.

        Raises:
            BackendError: there is no such page.
        """
        ...

    def write_pages(self, cache: KVCache, pages: Sequence[int], data: PageBytes) -> None:
        """Fill whole pages with what `read_pages` gave.

        Raises:
            BackendError: there is no such page, or the data are of another size.
        """
        ...

    def read_tokens(
        self, cache: KVCache, spec: KVSpec, layer: int, pages: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A copy of one layer's keys and values in these pages, which are not packed: twice
        [16 * pages, kv_heads, head_dim]."""
        ...

    def write_tokens(
        self,
        cache: KVCache,
        spec: KVSpec,
        layer: int,
        pages: Sequence[int],
        tokens: tuple[NDArray[np.float32], NDArray[np.float32]],
    ) -> None:
        """Fill these pages with what `read_tokens` would give then."""
        ...

    def compile(self, forward: Forward, caches: Sequence[KVCache], limits: BatchLimits) -> Program:
        """Make a forward runnable. No caches means batches without pages."""
        ...

    def numpy(self, tensor: Tensor) -> NDArray[np.float32]:
        """A result as a float32 array; it may share memory with the program's buffers."""
        ...
