"""The extension module built from native/bindings.cpp."""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

class DType(Enum):
    float32 = ...
    bfloat16 = ...

class SourceType(Enum):
    float32 = ...
    float16 = ...
    bfloat16 = ...
    int8 = ...
    int4 = ...

class WeightKind(Enum):
    float32 = ...
    bfloat16 = ...
    int8 = ...
    int4 = ...

class RowKind(Enum):
    float32 = ...
    bfloat16 = ...
    int8 = ...

class NormKind(Enum):
    rms = ...
    layer = ...

class ActivationKind(Enum):
    silu = ...
    gelu = ...
    gelu_tanh = ...
    relu = ...
    swiglu_clamped = ...

# A value of a program: its buffer and its width.
_Value = tuple[int, int]
_Ints = NDArray[np.int32]
_Floats = NDArray[np.float32]

# A digest of the sources that say how weights are packed.
SOURCES: str
HUGE_PAGE: int

def best_isa() -> str: ...

class Runtime:
    def __init__(self, threads: int, isa: str) -> None: ...
    @property
    def isa(self) -> str: ...
    def read_bandwidth(self, bytes: int) -> float: ...

class RowSampler:
    def __init__(self, isa: str) -> None: ...
    def draw(
        self,
        logits: _Floats,
        best: float,
        inverse_temperature: float,
        least: float,
        count: int,
        top_p: float,
        uniform: float,
    ) -> int: ...

class Vector:
    def __init__(self, values: _Floats) -> None: ...

def maps_huge_pages(file: int) -> bool: ...

class WeightFormat:
    def __init__(self, kind: WeightKind, rows: RowKind, group: int, zero_points: bool) -> None: ...

class Part:
    """Stored rows; 16-bit floats come as uint16."""

    def __init__(
        self,
        rows: NDArray[Any],
        type: SourceType,
        scales: NDArray[Any] | None,
        zero_points: NDArray[np.uint8] | None,
    ) -> None: ...

class Embedding:
    def __init__(self, type: SourceType, shape: tuple[int, int]) -> None: ...
    def pack(self, runtime: Runtime, part: Part) -> None: ...
    @property
    def width(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def file_bytes(self) -> int: ...
    def write(self, runtime: Runtime, file: int) -> list[int] | None: ...
    def read(self, runtime: Runtime, file: int, checksums: list[int]) -> bool: ...
    def map(self, runtime: Runtime, file: int, checksums: list[int]) -> bool: ...

class Linear:
    def __init__(
        self,
        runtime: Runtime,
        format: WeightFormat,
        shape: tuple[int, int],
        planes: int,
        gated: bool,
        bias: _Floats | None,
    ) -> None: ...
    def pack(self, runtime: Runtime, parts: Sequence[Part]) -> None: ...
    def make_room(self, slots: int, rank: int) -> None: ...
    def set_adapter(self, slot: int, adapter: LowRank | None) -> None: ...
    @property
    def n(self) -> int: ...
    @property
    def k(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def file_bytes(self) -> int: ...
    def write(self, runtime: Runtime, file: int) -> list[int] | None: ...
    def read(self, runtime: Runtime, file: int, checksums: list[int]) -> bool: ...
    def map(self, runtime: Runtime, file: int, checksums: list[int]) -> bool: ...

class LowRank:
    """parts: a [rank, inputs], b [outputs, rank], the first output and the scale of each."""

    def __init__(
        self, runtime: Runtime, dtype: DType, parts: Sequence[tuple[Part, Part, int, float]]
    ) -> None: ...

class RotaryTable:
    def __init__(self, half: int, cos: _Floats, sin: _Floats) -> None: ...

class KVLayout:
    """packed_bits: 8 or 4 of packed pages; 0 is pages of `dtype`."""

    def __init__(
        self, dtype: DType, num_kv_heads: int, head_dim: int, packed_bits: int
    ) -> None: ...
    @property
    def page_bytes(self) -> int:
        """Of one layer's page."""

class KVCache:
    def __init__(self, layout: KVLayout, num_layers: int, num_pages: int) -> None: ...
    def copy_pages(self, sources: list[int], targets: list[int]) -> None: ...
    def release_pages(self, pages: list[int]) -> None: ...
    @property
    def pages(self) -> NDArray[np.uint8]:
        """The memory itself: [layers, pages, bytes of one layer's page]."""

class Norm:
    def __init__(self, kind: NormKind, weight: Vector, bias: Vector | None, eps: float) -> None: ...

class Activation:
    def __init__(self, kind: ActivationKind, gated: bool, limit: float, alpha: float) -> None: ...

class Attention:
    def __init__(
        self,
        program: Program,
        place: tuple[int, int],
        heads: tuple[int, int, int],
        scale: float,
        window: int,
        softcap: float,
        far_group: int | None,
    ) -> None: ...

class Experts:
    def __init__(
        self,
        router: Linear,
        up: list[Linear],
        down: list[Linear],
        activation: Activation,
        top_k: int,
        renormalize: bool,
    ) -> None: ...

class Program:
    def __init__(
        self,
        runtime: Runtime,
        dtype: DType,
        caches: list[KVCache],
        limits: tuple[int, int, int],
        buffer_sizes: Sequence[int],
    ) -> None: ...
    def embed(
        self, out: _Value, tokens: Embedding, multiplier: float, positions: Embedding | None
    ) -> None: ...
    def norm(self, out: _Value, x: _Value, norm: Norm) -> None: ...
    def norm_linear(
        self,
        out: _Value,
        x: _Value,
        norm: Norm | None,
        linear: Linear,
        activation: Activation | None,
    ) -> None: ...
    def rotary_write(
        self,
        out: _Value,
        qkv: _Value,
        attention: Attention,
        rotary: RotaryTable | None,
        q_norm: Norm | None,
        k_norm: Norm | None,
    ) -> None: ...
    def pack_blocks(self, attention: Attention) -> None: ...
    def attention(
        self, out: _Value, queries: _Value, attention: Attention, sinks: Vector | None
    ) -> None: ...
    def linear_residual(
        self,
        out: _Value,
        x: _Value,
        linear: Linear,
        into: _Value,
        post_norm: Norm | None,
        multiplier: float,
    ) -> None: ...
    def experts_residual(
        self,
        out: _Value,
        x: _Value,
        norm: Norm | None,
        experts: Experts,
        into: _Value,
        post_norm: Norm | None,
        multiplier: float,
    ) -> None: ...
    def logits(
        self, out: _Value, hidden: _Value, head: Linear, multiplier: float, softcap: float
    ) -> None: ...
    def run(
        self,
        token_ids: _Ints,
        positions: _Ints,
        query_starts: _Ints,
        context_lens: _Ints,
        block_tables: Sequence[_Ints],
        logit_rows: _Ints,
        adapter_ids: _Ints | None,
        sights: _Ints,
        observed_rows: _Ints,
        observed: Sequence[_Floats],
    ) -> None: ...
    def output(self, value: _Value, rows: int) -> _Floats: ...
    @property
    def runs(self) -> int: ...
