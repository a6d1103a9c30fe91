"""Every op of the cpu backend against the reference, at every ISA level and dtype."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cpu_cases import GATED, ROWS, MakeForward, Span, Weights, batch_of, relative_error, run

from vivace.backends.protocol import (
    Activation,
    AttentionSpec,
    Backend,
    Batch,
    Experts,
    KVSpec,
    LinearForm,
    Norm,
    Residual,
    RotarySpec,
)
from vivace.backends.reference import ReferenceBackend
from vivace.formats.qtensor import QTensor

pytest.importorskip("vivace.backends.cpu._native")

from vivace.backends.cpu import CpuBackend, _native
from vivace.hardware.isa import levels_up_to

LEVELS = levels_up_to(_native.best_isa())
# What the order of float32 sums explains, and what rounding a neighbour to bfloat16 explains.
TOLERANCE = {"float32": 2e-5, "bfloat16": 6e-3}
ATTENTION_TOLERANCE = {"float32": 2e-5, "bfloat16": 2e-2}

RAGGED = [Span(0, 1, 0), Span(0, 37, 1), Span(0, 64, 2), Span(0, 17, 3)]


@pytest.fixture(params=LEVELS)
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def check(make: MakeForward, isa: str, dtype: Any, rows: int = 5, **more: Any) -> None:
    tolerance = more.pop("tolerance", TOLERANCE)[dtype]
    batches = more.pop("batches", [batch_of([Span(0, rows)])])
    expected = run(ReferenceBackend(dtype), make, batches, **more)
    actual = run(CpuBackend(dtype, threads=2, isa=isa), make, batches, **more)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert relative_error(a, e) < tolerance


# --- linear layers ---


@pytest.mark.parametrize(("k", "n"), [(1, 1), (7, 33), (64, 32), (97, 100), (256, 31)])
@pytest.mark.parametrize("rows", [1, 2, 9, 130])
@pytest.mark.parametrize("bias", [False, True])
def test_linear(isa: str, dtype: Any, k: int, n: int, rows: int, bias: bool) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, k))
        linear = weights.linear(backend, n, k, bias)
        return lambda ops: ops.norm_linear(ops.embed(table), None, linear)

    check(make, isa, dtype, rows)


def test_stacked_parts_of_every_stored_type(isa: str, dtype: Any) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 45))
        values = [weights.rng.standard_normal((n, 45)) for n in (19, 32, 50)]
        types = (np.float32, np.float16, ml_dtypes.bfloat16)
        parts = [
            QTensor.from_array("part", value.astype(kind))
            for value, kind in zip(values, types, strict=True)
        ]
        biases = [weights.tensor(n) for n in (19, 32, 50)]
        linear = backend.linear(parts, biases)
        return lambda ops: ops.norm_linear(ops.embed(table), None, linear)

    check(make, isa, dtype)


@pytest.mark.parametrize("width", [1, 15, 16, 100, 513])
@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("bias", [False, True])
def test_norms(isa: str, width: int, kind: Any, bias: bool) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, width, scale=30))
        gain = backend.vector(weights.gain(width), offset=0.5)
        norm = Norm(kind, gain, 1e-5, backend.vector(weights.tensor(width)) if bias else None)
        return lambda ops: ops.norm(ops.embed(table), norm)

    check(make, isa, "float32", 70)


ACTIVATIONS = [
    *(Activation(kind, True) for kind in ("silu", "gelu", "gelu_tanh", "relu")),
    *(Activation(kind, False) for kind in ("silu", "gelu", "gelu_tanh", "relu")),
    Activation("swiglu_clamped", True, limit=2.0, alpha=1.3),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_norm_linear_activation(isa: str, dtype: Any, activation: Activation) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 50))
        norm = Norm("rms", backend.vector(weights.gain(50)), 1e-6)
        # Large values: both ends of every activation are reached.
        form = LinearForm(gated=activation.gated)
        linear = backend.linear([weights.tensor(74, 50, scale=2)], [weights.tensor(74)], form=form)
        return lambda ops: ops.norm_linear(ops.embed(table), norm, linear, activation)

    check(make, isa, dtype, 40)


@pytest.mark.parametrize("post", [False, True])
def test_embed_and_residual(isa: str, dtype: Any, post: bool) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        tokens = backend.embedding(weights.tensor(ROWS, 43))
        positions = backend.embedding(weights.tensor(200, 43))
        post_norm = Norm("rms", backend.vector(weights.gain(43)), 1e-6) if post else None
        linear = weights.linear(backend, 43, 43, bias=True)

        def forward(ops: Any) -> Any:
            x = ops.embed(tokens, 6.5, positions)
            y = ops.linear_residual(x, linear, Residual(x, post_norm, 0.25))
            return ops.linear_residual(y, linear, Residual(x))

        return forward

    check(make, isa, dtype, 150)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_logits_are_of_the_chosen_rows(isa: str, dtype: Any, softcap: float | None) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 40))
        head = weights.linear(backend, 211, 40)
        return lambda ops: ops.logits(ops.embed(table), head, 1.5, softcap)

    batch = batch_of(RAGGED)
    chosen = Batch(**{**vars(batch), "logit_rows": np.asarray([118, 0, 37], np.int32)})
    none = Batch(**{**vars(batch), "logit_rows": np.asarray([], np.int32)})
    check(make, isa, dtype, batches=[chosen])
    assert run(CpuBackend(dtype, isa=isa), make, [none])[0].shape == (0, 211)


# --- attention ---


@pytest.mark.parametrize(
    "spec",
    [
        AttentionSpec(4, 2, 16, 0.25),
        AttentionSpec(6, 2, 20, 0.2, window=5),
        AttentionSpec(3, 1, 33, 0.3, softcap=2.0),
        AttentionSpec(4, 4, 64, 0.125, window=40, softcap=5.0),
        AttentionSpec(2, 1, 7, 0.4, window=1),
        AttentionSpec(16, 2, 128, 0.09),
    ],
    ids=str,
)
@pytest.mark.parametrize("sinks", [False, True])
def test_attention_of_ragged_batches(
    isa: str, dtype: Any, spec: AttentionSpec, sinks: bool
) -> None:
    width = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim
    turned = spec.head_dim // 2 if spec.head_dim > 20 else spec.head_dim // 2 // 2 + 1

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, width))
        rotary = backend.rotary(RotarySpec(tuple(0.7**i for i in range(turned)), 1.1, 128))
        norms = [Norm("rms", backend.vector(weights.gain(spec.head_dim)), 1e-6) for _ in "qk"]
        logits = backend.vector(weights.tensor(spec.num_heads, scale=2)) if sinks else None

        def forward(ops: Any) -> Any:
            queries = ops.rotary_write(ops.embed(table), spec, rotary, *norms)
            return ops.attention(queries, spec, logits)

        return forward

    batches = [
        batch_of(RAGGED),
        # A decode, a chunk, a fresh prefill and a row at a page's first place.
        batch_of([Span(1, 1, 0), Span(37, 30, 1), Span(0, 50, 4), Span(64, 1, 2)]),
        batch_of([Span(2, 1, 0), Span(67, 1, 1), Span(50, 1, 4), Span(65, 50, 2)]),
    ]
    groups = [KVSpec(1, spec.num_kv_heads, spec.head_dim, spec.window)]
    check(make, isa, dtype, batches=batches, groups=groups, tolerance=ATTENTION_TOLERANCE)


@pytest.mark.parametrize("whole", [False, True])
def test_layers_groups_and_whole_norms(isa: str, dtype: Any, whole: bool) -> None:
    """Two groups, two layers each, no rotary in one, LayerNorm with bias on q or all of q."""
    spec = AttentionSpec(4, 2, 12, 0.3)
    lengths = (48, 24) if whole else (12, 12)

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 96))
        project = weights.linear(backend, 96, 48)
        rotary = backend.rotary(RotarySpec((1.0, 0.1), 1.0, 128))
        norms = [
            Norm("layer", backend.vector(weights.gain(n)), 1e-5, backend.vector(weights.tensor(n)))
            for n in lengths
        ]

        def forward(ops: Any) -> Any:
            x = ops.embed(table)
            for group, layer in ((0, 1), (1, 0), (0, 0), (1, 1)):
                here = AttentionSpec(4, 2, 12, 0.3, kv_group=group, kv_layer=layer)
                table_here = rotary if group else None
                queries = ops.rotary_write(x, here, table_here, *norms)
                x = ops.norm_linear(ops.attention(queries, here), None, project)
            return x

        return forward

    group = KVSpec(2, spec.num_kv_heads, spec.head_dim)
    batches = [batch_of(RAGGED, groups=2), batch_of([Span(37, 30, 1), Span(1, 1, 0)], groups=2)]
    check(make, isa, dtype, batches=batches, groups=[group, group], tolerance=ATTENTION_TOLERANCE)


def test_what_a_page_held_before_is_forgotten(isa: str, dtype: Any) -> None:
    """Infinite values of a sequence that is gone do not reach the next user of its pages."""
    spec = AttentionSpec(2, 1, 8, 0.3)

    def make(backend: Backend, weights: Weights) -> Any:
        values = weights.rng.standard_normal((ROWS, 32)).astype(np.float32)
        values[299] = np.inf
        table = backend.embedding(QTensor.from_array("table", values))
        return lambda ops: ops.attention(ops.rotary_write(ops.embed(table), spec, None), spec)

    fresh = batch_of([Span(0, 5)])
    poison = Batch(**{**vars(batch_of([Span(0, 16)])), "token_ids": np.full(16, 299, np.int32)})
    group = [KVSpec(1, 1, 8)]
    backend = CpuBackend(dtype, threads=2, isa=isa)
    expected = run(backend, make, [fresh], group)[0]
    actual = run(backend, make, [poison, fresh], group)[1]
    np.testing.assert_array_equal(actual, expected)


# --- experts ---


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 90])
@pytest.mark.parametrize("kind", ["silu", "swiglu_clamped"])
def test_experts(isa: str, dtype: Any, kind: Any, rows: int, renormalize: bool) -> None:
    hidden, inner, count = 44, 37, 5

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, hidden))
        norm = Norm("rms", backend.vector(weights.gain(hidden)), 1e-6)
        post_norm = Norm("rms", backend.vector(weights.gain(hidden)), 1e-6) if rows == 3 else None
        # Far-apart router logits: a rounding does not change who is chosen.
        experts = Experts(
            router=backend.linear([weights.tensor(count, hidden, scale=3)]),
            up=tuple(weights.linear(backend, 2 * inner, hidden, True, GATED) for _ in range(count)),
            down=tuple(weights.linear(backend, hidden, inner, True) for _ in range(count)),
            activation=Activation(kind, True),
            top_k=2,
            renormalize=renormalize,
        )

        def forward(ops: Any) -> Any:
            x = ops.embed(table)
            return ops.experts_residual(x, norm, experts, Residual(x, post_norm, 0.7))

        return forward

    check(make, isa, dtype, rows)


def test_equally_likely_experts_are_taken_from_the_lowest(isa: str) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 8))
        router = backend.linear([QTensor.from_array("router", np.zeros((6, 8), np.float32))])
        experts = Experts(
            router=router,
            up=tuple(weights.linear(backend, 8, 8) for _ in range(6)),
            down=tuple(weights.linear(backend, 8, 8) for _ in range(6)),
            activation=Activation("relu", False),
            top_k=2,
            renormalize=True,
        )

        def forward(ops: Any) -> Any:
            x = ops.embed(table)
            return ops.experts_residual(x, None, experts, Residual(x))

        return forward

    check(make, isa, "float32", 7)


# --- extreme values ---

SIZES = (0.0, 1e-25, 1e-12, 1.0, 1e4, 1e12)


def check_rows(make: MakeForward, isa: str) -> None:
    """Each row is right by its own measure: zeros, one value throughout, tiny and huge ones."""
    ids = np.arange(len(SIZES) + 1, dtype=np.int32)
    batch = Batch(**{**vars(batch_of([Span(0, len(ids))])), "token_ids": ids})
    expected = run(ReferenceBackend(), make, [batch])[0]
    actual = run(CpuBackend(threads=1, isa=isa), make, [batch])[0]
    for a, e in zip(actual, expected, strict=True):
        assert relative_error(a, e) < 2e-5


def extreme_table(backend: Backend, weights: Weights) -> Any:
    rows = [size * weights.rng.standard_normal(37) for size in SIZES]
    values = np.asarray([*rows, np.full(37, 3.0)], np.float32)
    return backend.embedding(QTensor.from_array("table", values))


@pytest.mark.parametrize("kind", ["rms", "layer"])
def test_norms_of_extreme_rows(isa: str, kind: Any) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = extreme_table(backend, weights)
        norm = Norm(kind, backend.vector(weights.gain(37)), 1e-6)
        linear = weights.linear(backend, 58, 37, bias=True)
        return lambda ops: ops.norm_linear(ops.embed(table), norm, linear)

    check_rows(make, isa)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_activations_of_extreme_rows(isa: str, activation: Activation) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = extreme_table(backend, weights)
        linear = weights.linear(backend, 58, 37, form=LinearForm(gated=activation.gated))
        return lambda ops: ops.norm_linear(ops.embed(table), None, linear, activation)

    check_rows(make, isa)
