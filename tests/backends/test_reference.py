"""The oracle's own steps, against formulas written another way."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from vivace.backends.protocol import (
    Activation,
    AttentionSpec,
    Batch,
    BatchLimits,
    KVSpec,
    LinearForm,
    Norm,
    Ops,
    RotarySpec,
    Tensor,
)
from vivace.backends.reference import ReferenceBackend, steps
from vivace.core.errors import BackendError
from vivace.formats.qtensor import INT8, QTensor, Scheme
from vivace.formats.rounding import quantize_rows, round_to
from vivace.formats.schemes import SCHEMES, int4

pytestmark = pytest.mark.tiny

LIMITS = BatchLimits(max_tokens=64, max_sequences=8, max_logit_rows=8)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def ints(values: object) -> np.ndarray:
    return np.asarray(values, dtype=np.int32)


def test_activations_equal_their_formulas() -> None:
    x = np.linspace(-12, 12, 97, dtype=np.float32)
    exact = {
        "silu": [v / (1 + math.exp(-v)) for v in x.tolist()],
        "gelu": [v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()],
        "relu": [max(v, 0.0) for v in x.tolist()],
    }
    for kind, expected in exact.items():
        np.testing.assert_allclose(steps.activate(x, Activation(kind, False)), expected, atol=2e-6)


def test_gate_comes_first_and_clamping_is_one_sided_for_it() -> None:
    x = np.asarray([[-9.0, 9.0, 9.0, -9.0]], dtype=np.float32)
    gated = steps.activate(x, Activation("relu", True))
    np.testing.assert_array_equal(gated, [[0.0, -81.0]])
    clamped = steps.activate(x, Activation("swiglu_clamped", True))
    expected = [-9 / (1 + math.exp(1.702 * 9)) * 8, 7 / (1 + math.exp(-1.702 * 7)) * -6]
    np.testing.assert_allclose(clamped, [expected], rtol=1e-6)


def test_norms_have_the_moments_they_promise(rng: np.random.Generator) -> None:
    x = rng.normal(3, 2, (5, 33)).astype(np.float32)
    ones = np.ones(33, np.float32)
    rms = steps.normalize(x, Norm("rms", ones, 0.0))
    np.testing.assert_allclose(np.square(rms).mean(-1), 1, rtol=1e-5)
    layer = steps.normalize(x, Norm("layer", 2 * ones, 0.0, ones))
    np.testing.assert_allclose(layer.mean(-1), 1, atol=1e-5)
    np.testing.assert_allclose(layer.std(-1), 2, rtol=1e-5)


def test_rotation_keeps_lengths_and_only_differences_of_positions_matter(
    rng: np.random.Generator,
) -> None:
    table = ReferenceBackend().rotary(RotarySpec((1.0, 0.3, 0.01), 1.0, 100))
    q, k = rng.normal(size=(2, 1, 1, 8)).astype(np.float32)

    def score(q_position: int, k_position: int) -> float:
        turned = [
            steps.turn(x, table.cos[p][None], table.sin[p][None])
            for x, p in ((q, q_position), (k, k_position))
        ]
        return float((turned[0] * turned[1]).sum())

    assert score(5, 2) == pytest.approx(score(93, 90), abs=1e-4)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-3)
    turned = steps.turn(q, table.cos[9][None], table.sin[9][None])
    np.testing.assert_allclose(np.square(turned).sum(), np.square(q).sum(), rtol=1e-5)
    np.testing.assert_array_equal(turned[..., 6:], q[..., 6:])


def test_routing_breaks_ties_downwards_and_renormalizes() -> None:
    logits = np.asarray([[1.0, 2.0, 2.0, 0.0]], dtype=np.float32)
    chosen, weights = steps.route(logits, 2, renormalize=True)
    assert chosen.tolist() == [[1, 2]]
    np.testing.assert_allclose(weights, [[0.5, 0.5]])
    _, plain = steps.route(logits, 2, renormalize=False)
    assert plain.sum() == pytest.approx(2 * math.e**2 / (math.e**2 * 2 + math.e + 1))


def attention_program(
    backend: ReferenceBackend, table: np.ndarray, spec: AttentionSpec, pages: int
) -> object:
    """A program whose rows' q, k and v are rows of `table`, picked by token id."""
    embedding = backend.embedding(QTensor.from_array("qkv", table))
    group = KVSpec(1, spec.num_kv_heads, spec.head_dim, spec.window)
    caches = [backend.kv_cache(group, pages)] if pages else []

    def forward(ops: Ops) -> Tensor:
        return ops.attention(ops.rotary_write(ops.embed(embedding), spec, None), spec)

    return backend.compile(forward, caches, LIMITS)


@pytest.mark.parametrize("window", [None, 5, 20])
def test_pages_chunks_and_no_pages_see_the_same(
    rng: np.random.Generator, window: int | None
) -> None:
    spec = AttentionSpec(4, 2, 6, scale=0.4, window=window)
    table = rng.normal(size=(40, (4 + 2 + 2) * 6)).astype(np.float32)
    backend = ReferenceBackend()
    rows = ints(range(40))
    whole = attention_program(backend, table, spec, 0).run(
        Batch(rows, rows, ints([0, 40]), ints([40]), (), ints([]))
    )
    paged = attention_program(backend, table, spec, 5)
    blocks = ints([[4, 1, 3]])
    for start, end in ((0, 7), (7, 8), (8, 33), (33, 40)):
        chunk = rows[start:end]
        out = paged.run(
            Batch(chunk, chunk, ints([0, end - start]), ints([end]), (blocks,), ints([]))
        )
        np.testing.assert_allclose(out, whole[start:end], atol=1e-6)


def test_attention_is_a_weighted_mean_of_what_is_visible(rng: np.random.Generator) -> None:
    q = rng.normal(size=(3, 2, 4)).astype(np.float32)
    k, v = rng.normal(size=(2, 3, 1, 4)).astype(np.float32)
    visible = np.tri(3, dtype=bool)
    segments = [steps.Segment(q, k, v, visible)]
    out = steps.attend(segments, None, None)
    np.testing.assert_allclose(out[0], np.stack([v[0, 0]] * 2), rtol=1e-6)
    scores = np.exp(q[2, 1] @ k[:, 0].T)
    np.testing.assert_allclose(out[2, 1], scores / scores.sum() @ v[:, 0], rtol=1e-5)
    sunk = steps.attend(segments, None, np.asarray([-np.inf, 2.0], np.float32))
    np.testing.assert_allclose(sunk[:, 0], out[:, 0], rtol=1e-6)
    share = scores.sum() / (scores.sum() + math.e**2)
    np.testing.assert_allclose(sunk[2, 1], out[2, 1] * share, rtol=1e-5)
    parts = [steps.Segment(q, k[cut], v[cut], visible[:, cut]) for cut in (slice(1), slice(1, 3))]
    np.testing.assert_allclose(steps.attend(parts, None, None), out, atol=1e-6)


def test_bfloat16_rounds_what_a_machine_would_keep() -> None:
    backend = ReferenceBackend("bfloat16")
    linear = backend.linear([QTensor.from_array("w", np.asarray([[1.0009765625]], np.float32))])
    assert linear.weight.values.item() == 1.0


def product(parts: list[QTensor], x: np.ndarray, scheme: Scheme | None = None) -> np.ndarray:
    """What a linear of these parts makes of x, through the ops."""
    backend = ReferenceBackend()
    table = backend.embedding(QTensor.from_array("x", x))
    linear = backend.linear(parts, form=LinearForm(scheme))
    program = backend.compile(
        lambda ops: ops.norm_linear(ops.embed(table), None, linear), [], LIMITS
    )
    rows = ints(range(len(x)))
    return program.run(Batch(rows, rows, ints([0, len(x)]), ints([len(x)]), (), ints([])))


@pytest.mark.parametrize("scheme", SCHEMES.values(), ids=SCHEMES)
@pytest.mark.parametrize("width", [33, 128, 200])
def test_integer_linears_compute_what_their_numbers_mean(
    rng: np.random.Generator, scheme: Scheme, width: int
) -> None:
    weight = QTensor.from_array("w", rng.normal(size=(9, width)).astype(np.float32))
    x = rng.normal(size=(5, width)).astype(np.float32)
    if scheme.activation_bits == 8:
        codes, scales = quantize_rows(x)
        seen = codes * scales[:, None]
    else:
        seen = x.astype(ml_dtypes.bfloat16)
    expected = seen.astype(np.float64) @ round_to(weight, scheme).to_float32().T
    np.testing.assert_allclose(product([weight], x, scheme), expected, rtol=1e-5, atol=1e-5)


def test_sums_of_codes_are_exact_however_large() -> None:
    """Of the extreme codes: the sum passes 2^24, where float32 sums would already round."""
    width = 4097
    weight = QTensor.from_array("w", np.full((1, width), -1, np.float32))
    x = np.ones((1, width), np.float32)
    one = np.float32(1) / np.float32(127)
    expected = np.float32(-127 * 127 * width) * one * one
    assert product([weight], x, INT8).item() == expected


def test_parts_stored_alike_stack_and_others_are_refused(rng: np.random.Generator) -> None:
    values = rng.normal(size=(6, 64)).astype(np.float32)
    x = rng.normal(size=(3, 64)).astype(np.float32)
    top, bottom = (QTensor.from_array("w", half) for half in (values[:2], values[2:]))
    whole = product([QTensor.from_array("w", values)], x, int4(32))
    np.testing.assert_array_equal(product([top, bottom], x, int4(32)), whole)
    stored = round_to(top, int4(32))
    np.testing.assert_array_equal(product([stored, bottom], x, int4(32)), whole)
    with pytest.raises(BackendError, match="one scheme"):
        product([stored, bottom], x)


def test_stored_embeddings_are_looked_up_as_they_are(rng: np.random.Generator) -> None:
    table = round_to(QTensor.from_array("t", rng.normal(size=(4, 32)).astype(np.float32)), INT8)
    np.testing.assert_array_equal(ReferenceBackend("bfloat16").embedding(table), table.to_float32())
