"""Every op of the torch backend against the reference, with and without pages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from cpu_cases import ROWS, MakeForward, Span, Weights, batch_of, relative_error, run

from vivace.backends.protocol import (
    Activation,
    AttentionSpec,
    Backend,
    Batch,
    DTypeName,
    Experts,
    KVSpec,
    LinearForm,
    Norm,
    Residual,
    RotarySpec,
)
from vivace.backends.reference import ReferenceBackend
from vivace.backends.torch import TorchBackend
from vivace.core.errors import BackendError
from vivace.formats.qtensor import INT8, QTensor, Scheme
from vivace.formats.rounding import round_to
from vivace.formats.schemes import SCHEMES

pytestmark = pytest.mark.oracle

# What the order of float32 sums explains; bfloat16 also rounds what a linear gives.
TOLERANCE: dict[DTypeName, float] = {"float32": 2e-5, "bfloat16": 2e-2}
RAGGED = [Span(0, 1, 0), Span(0, 37, 1), Span(0, 64, 2), Span(0, 17, 3)]
EQUAL = [Span(0, 21, 0), Span(0, 21, 1), Span(0, 21, 2)]
CHUNKS = [
    batch_of(RAGGED),
    batch_of([Span(1, 1, 0), Span(37, 30, 1), Span(0, 50, 4), Span(64, 1, 2)]),
    batch_of([Span(2, 1, 0), Span(67, 1, 1), Span(50, 1, 4), Span(65, 50, 2)]),
]


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def check(make: MakeForward, dtype: DTypeName, rows: int = 9, **more: Any) -> None:
    batches = more.pop("batches", [batch_of([Span(0, rows)])])
    expected = run(ReferenceBackend(dtype), make, batches, **more)
    actual = run(TorchBackend(dtype), make, batches, **more)
    for a, e in zip(actual, expected, strict=True):
        assert a.shape == e.shape
        assert relative_error(a, e) < TOLERANCE[dtype]


def without_pages(batch: Batch) -> Batch:
    return Batch(**{**vars(batch), "block_tables": ()})


def test_stacked_parts_with_bias(dtype: DTypeName) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 45))
        sizes = (19, 32, 50)
        linear = backend.linear(
            [weights.tensor(n, 45, scale=0.1) for n in sizes], [weights.tensor(n) for n in sizes]
        )
        return lambda ops: ops.norm_linear(ops.embed(table), None, linear)

    check(make, dtype)


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
def test_integer_weights(scheme: Scheme) -> None:
    """As exact as the reference: no precision is lost for being on this backend."""

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 165))
        parts = [weights.tensor(n, 165, scale=0.1) for n in (19, 50)]
        biases = [weights.tensor(n) for n in (19, 50)]
        linear = backend.linear(parts, biases, form=LinearForm(scheme))
        return lambda ops: ops.norm_linear(ops.embed(table), None, linear)

    check(make, "float32")


def test_what_integer_weights_cannot_do_here_is_refused() -> None:
    weight = round_to(Weights().tensor(8, 32), INT8)
    backend = TorchBackend("float32", trainable=True)
    for take in (lambda: backend.linear([weight]), lambda: backend.embedding(weight)):
        with pytest.raises(BackendError, match="gradients"):
            take()


@pytest.mark.parametrize("rounded", [False, True])
def test_embedding_in_int8(dtype: DTypeName, rounded: bool) -> None:
    """Bit for bit the reference's rows, beside positions that stay floats."""

    def make(backend: Backend, weights: Weights) -> Any:
        table = weights.tensor(ROWS, 43)
        given = (round_to(table, INT8),) if rounded else (table, INT8)
        tokens, positions = backend.embedding(*given), backend.embedding(weights.tensor(200, 43))
        return lambda ops: ops.embed(tokens, 6.5, positions)

    batches = [batch_of([Span(0, 150)])]
    expected = run(ReferenceBackend(dtype), make, batches)
    np.testing.assert_array_equal(run(TorchBackend(dtype), make, batches), expected)


@pytest.mark.parametrize("width", [1, 15, 100])
@pytest.mark.parametrize("kind", ["rms", "layer"])
@pytest.mark.parametrize("bias", [False, True])
def test_norms(width: int, kind: Any, bias: bool) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, width, scale=30))
        gain = backend.vector(weights.gain(width), offset=0.5)
        norm = Norm(kind, gain, 1e-5, backend.vector(weights.tensor(width)) if bias else None)
        return lambda ops: ops.norm(ops.embed(table), norm)

    check(make, "float32", 70)


PLAIN_KINDS = ("silu", "gelu", "gelu_tanh", "relu")
ACTIVATIONS = [(kind, gated) for kind in PLAIN_KINDS for gated in (False, True)]


@pytest.mark.parametrize(("kind", "gated"), [*ACTIVATIONS, ("swiglu_clamped", True)])
def test_activations(dtype: DTypeName, kind: Any, gated: bool) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 50))
        norm = Norm("rms", backend.vector(weights.gain(50)), 1e-6)
        # Large values: both ends of every activation are reached.
        linear = backend.linear([weights.tensor(74, 50, scale=2)], [weights.tensor(74)])
        activation = Activation(kind, gated)
        return lambda ops: ops.norm_linear(ops.embed(table), norm, linear, activation)

    check(make, dtype, 40)


@pytest.mark.parametrize("post", [False, True])
def test_embed_and_residual(dtype: DTypeName, post: bool) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        tokens = backend.embedding(weights.tensor(ROWS, 43))
        positions = backend.embedding(weights.tensor(200, 43))
        post_norm = Norm("rms", backend.vector(weights.gain(43)), 1e-6) if post else None
        linear = weights.linear(backend, 43, 43, bias=True)

        def forward(ops: Any) -> Any:
            x = ops.embed(tokens, 6.5, positions)
            return ops.linear_residual(x, linear, Residual(x, post_norm, 0.25))

        return forward

    check(make, dtype, 150)


@pytest.mark.parametrize("softcap", [None, 3.0])
def test_logits_are_of_the_chosen_rows(dtype: DTypeName, softcap: float | None) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 40))
        head = weights.linear(backend, 211, 40)
        return lambda ops: ops.logits(ops.embed(table), head, 1.5, softcap)

    rows = np.asarray([118, 0, 37], np.int32)
    check(make, dtype, batches=[Batch(**{**vars(batch_of(RAGGED)), "logit_rows": rows})])


@pytest.mark.parametrize(
    "spec",
    [
        AttentionSpec(4, 2, 16, 0.25),
        AttentionSpec(6, 2, 20, 0.2, window=5),
        AttentionSpec(3, 1, 33, 0.3, softcap=2.0),
        AttentionSpec(4, 4, 64, 0.125, window=40, softcap=5.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("pages", [False, True])
def test_attention(dtype: DTypeName, spec: AttentionSpec, sinks: bool, pages: bool) -> None:
    """With pages: prefills, chunks and decodes in one batch. Without: whole sequences."""
    width = (spec.num_heads + 2 * spec.num_kv_heads) * spec.head_dim

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, width))
        rotary = backend.rotary(RotarySpec(tuple(0.7**i for i in range(6)), 1.1, 128))
        norms = [Norm("rms", backend.vector(weights.gain(spec.head_dim)), 1e-6) for _ in "qk"]
        logits = backend.vector(weights.tensor(spec.num_heads, scale=2)) if sinks else None

        def forward(ops: Any) -> Any:
            queries = ops.rotary_write(ops.embed(table), spec, rotary, *norms)
            return ops.attention(queries, spec, logits)

        return forward

    if pages:
        groups = [KVSpec(1, spec.num_kv_heads, spec.head_dim, spec.window)]
        check(make, dtype, batches=CHUNKS, groups=groups)
    else:
        check(make, dtype, batches=[without_pages(batch_of(s)) for s in (RAGGED, EQUAL)])


@pytest.mark.parametrize("lengths", [(12, 12), (48, 24)], ids=["head", "whole"])
def test_layers_of_two_groups(dtype: DTypeName, lengths: tuple[int, int]) -> None:
    """LayerNorms with bias on heads or all of q and k; one group turns, the other does not."""

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
                spec = AttentionSpec(4, 2, 12, 0.3, kv_group=group, kv_layer=layer)
                queries = ops.rotary_write(x, spec, rotary if group else None, *norms)
                x = ops.norm_linear(ops.attention(queries, spec), None, project)
            return x

        return forward

    batches = [batch_of(RAGGED, groups=2), batch_of([Span(37, 30, 1), Span(1, 1, 0)], groups=2)]
    check(make, dtype, batches=batches, groups=[KVSpec(2, 2, 12)] * 2)


@pytest.mark.parametrize("renormalize", [False, True])
@pytest.mark.parametrize("rows", [1, 90])
@pytest.mark.parametrize("kind", ["silu", "swiglu_clamped"])
def test_experts(dtype: DTypeName, kind: Any, rows: int, renormalize: bool) -> None:
    hidden, inner, count = 44, 37, 5

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, hidden))
        norm = Norm("rms", backend.vector(weights.gain(hidden)), 1e-6)
        experts = Experts(
            router=backend.linear([weights.tensor(count, hidden, scale=3)]),
            up=tuple(weights.linear(backend, 2 * inner, hidden, True) for _ in range(count)),
            down=tuple(weights.linear(backend, hidden, inner, True) for _ in range(count)),
            activation=Activation(kind, True),
            top_k=2,
            renormalize=renormalize,
        )

        def forward(ops: Any) -> Any:
            x = ops.embed(table)
            return ops.experts_residual(x, norm, experts, Residual(x, None, 0.7))

        return forward

    check(make, dtype, rows)


def test_equally_likely_experts_are_taken_from_the_lowest() -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 8))
        experts = Experts(
            router=backend.linear([QTensor.from_array("router", np.zeros((6, 8), np.float32))]),
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

    check(make, "float32", 7)


def test_pages_are_copied_whole() -> None:
    backend = TorchBackend("float32")
    cache = backend.kv_cache(KVSpec(2, 1, 4), 5)
    cache.keys[:, 3], cache.values[:, 0] = 7.0, 5.0
    backend.copy_pages(cache, [3, 0], [1, 4])
    assert bool((cache.keys[:, 1] == 7).all())
    assert bool((cache.values[:, 4] == 5).all())
    assert not bool(cache.keys[:, [0, 2, 4]].any())
    assert backend.kv_page_bytes(KVSpec(2, 1, 4)) * 5 == cache.keys.nbytes + cache.values.nbytes


@pytest.mark.parametrize("device", ["tpu9", "cuda:77"])
def test_an_absent_device_is_refused_in_one_sentence(device: str) -> None:
    with pytest.raises(BackendError, match=f"cannot use the device '{device}'"):
        TorchBackend("float32", device)
