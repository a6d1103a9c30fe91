"""The whole decoder on the cpu backend: equal to the reference, and to itself in any company."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from cpu_cases import GATED, LIMITS, Floats, Span, Weights, batch_of, relative_error
from numpy.typing import NDArray

from vivace.backends.protocol import (
    Activation,
    AttentionSpec,
    Backend,
    Batch,
    BatchLimits,
    Experts,
    FarKV,
    KVSpec,
    Norm,
    RotarySpec,
)
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import BackendError
from vivace.formats.kv_format import INT8_KV
from vivace.models.decoder import (
    AttentionWeights,
    Decoder,
    DecoderWeights,
    DenseWeights,
    LayerWeights,
    MLPWeights,
)
from vivace.models.spec import ExpertsSpec, LayerSpec, MLPSpec, ModelSpec, NormSpec

pytest.importorskip("vivace.backends.cpu._native")

from vivace.backends.cpu import CpuBackend, _native
from vivace.hardware.isa import levels_up_to

LEVELS = levels_up_to(_native.best_isa())
HIDDEN, INNER, VOCAB, HEADS, KV_HEADS, HEAD_DIM = 72, 100, 301, 6, 2, 20
WINDOW, POSITIONS, PAGES = 20, 128, 64
SWIGLU = Activation("silu", True)
GROUPS = (KVSpec(2, KV_HEADS, HEAD_DIM), KVSpec(1, KV_HEADS, HEAD_DIM, WINDOW))


@pytest.fixture(params=LEVELS)
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


def build_decoder(backend: Backend) -> Decoder:
    """Three layers: full attention, a window, and experts; sinks, q/k norms and post-norms."""
    weights = Weights(seed=5)

    def norm(width: int) -> Norm:
        return Norm("rms", backend.vector(weights.gain(width)), 1e-6)

    def layer(index: int) -> LayerWeights:
        attention = AttentionWeights(
            norm=norm(HIDDEN),
            qkv=weights.linear(backend, (HEADS + 2 * KV_HEADS) * HEAD_DIM, HIDDEN, True),
            out=weights.linear(backend, HIDDEN, HEADS * HEAD_DIM),
            q_norm=norm(HEAD_DIM),
            k_norm=norm(HEAD_DIM),
            post_norm=norm(HIDDEN) if index == 1 else None,
            sinks=backend.vector(weights.tensor(HEADS)) if index == 1 else None,
            rotary=rotary if index else None,
        )
        return LayerWeights(attention, MLPWeights(norm(HIDDEN), experts() if index == 2 else mlp()))

    def mlp() -> DenseWeights:
        up = weights.linear(backend, 2 * INNER, HIDDEN, form=GATED)
        return DenseWeights(up, weights.linear(backend, HIDDEN, INNER), SWIGLU)

    def experts() -> Experts:
        ups = tuple(weights.linear(backend, 2 * INNER, HIDDEN, form=GATED) for _ in range(4))
        downs = tuple(weights.linear(backend, HIDDEN, INNER) for _ in range(4))
        router = backend.linear([weights.tensor(4, HIDDEN)])
        return Experts(router, ups, downs, SWIGLU, top_k=2, renormalize=True)

    rotary = backend.rotary(RotarySpec(tuple(0.6**i for i in range(HEAD_DIM // 2)), 1.0, POSITIONS))
    table = weights.tensor(VOCAB, HIDDEN)
    layers = tuple(layer(index) for index in range(3))
    head = backend.linear([table])  # tied: one tensor, two handles
    return Decoder(spec(), DecoderWeights(backend.embedding(table), layers, norm(HIDDEN), head))


def spec() -> ModelSpec:
    def attention(window: int | None, group: int, layer: int) -> AttentionSpec:
        scale = HEAD_DIM**-0.5
        return AttentionSpec(HEADS, KV_HEADS, HEAD_DIM, scale, window, None, group, layer)

    mlp = MLPSpec(INNER, SWIGLU)
    layers = (
        LayerSpec(attention(None, 0, 0), mlp, None),
        LayerSpec(attention(WINDOW, 1, 0), mlp, 0, sinks=True),
        LayerSpec(attention(None, 0, 1), ExpertsSpec(4, 2, INNER, SWIGLU, True), 0),
    )
    return ModelSpec(
        "test", VOCAB, HIDDEN, layers, (), GROUPS, NormSpec("rms", 1e-6), POSITIONS, POSITIONS,
        embedding_multiplier=3.0, residual_multiplier=0.5, logits_softcap=30.0,
    )  # fmt: skip


class Runner:
    """A decoder and its pages on one backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        caches = [backend.kv_cache(group, PAGES) for group in GROUPS]
        self.program = backend.compile(build_decoder(backend).logits, caches, LIMITS)

    def logits(self, *spans: Span) -> Floats:
        """Of every row."""
        batch = batch_of(spans, groups=2, pages=PAGES, tokens=VOCAB)
        return self.backend.numpy(self.program.run(batch)).copy()


def test_decoder_equals_the_reference(isa: str, dtype: Any) -> None:
    cpu, reference = Runner(CpuBackend(dtype, 2, isa)), Runner(ReferenceBackend(dtype))
    tolerance = {"float32": 2e-5, "bfloat16": 4e-2}[dtype]
    for spans in ([Span(0, 40, 0), Span(0, 1, 1)], [Span(40, 1, 0), Span(1, 33, 1)]):
        assert relative_error(cpu.logits(*spans), reference.logits(*spans)) < tolerance


def test_a_row_is_the_same_in_any_company(isa: str, dtype: Any) -> None:
    """Bit for bit: alone row by row, in chunks, and beside other sequences, on 1 and 3 threads."""
    length = 45
    runner = Runner(CpuBackend(dtype, 2, isa))
    whole = runner.logits(Span(0, length))
    for chunks in ((1,) * length, (7,) * 6 + (3,), (16, 29), (44, 1)):
        starts = np.cumsum([0, *chunks[:-1]]).tolist()
        rows = [runner.logits(Span(s, n)) for s, n in zip(starts, chunks, strict=True)]
        np.testing.assert_array_equal(np.concatenate(rows), whole)
    for threads in (1, 3):
        other = Runner(CpuBackend(dtype, threads, isa))
        crowd = [Span(0, 1, 1), Span(0, length, 0), Span(0, 17, 2), Span(0, 1, 3)]
        np.testing.assert_array_equal(other.logits(*crowd)[1 : 1 + length], whole)


def test_decoding_many_at_once_equals_one_by_one(isa: str, dtype: Any) -> None:
    runner = Runner(CpuBackend(dtype, 2, isa))
    prompts = [Span(0, 3 * seed + 1, seed) for seed in range(7)]
    for prompt in prompts:
        runner.logits(prompt)
    steps = [Span(prompt.count, 1, prompt.seed) for prompt in prompts]
    together = runner.logits(*steps)
    alone = np.concatenate([runner.logits(step) for step in steps])
    np.testing.assert_array_equal(together, alone)


def test_a_step_is_one_native_call() -> None:
    runner = Runner(CpuBackend("bfloat16", 2))
    for step in range(3):
        runner.logits(Span(step, 1))
    assert runner.program.native_calls == 3


def test_copied_pages_hold_the_same(dtype: Any) -> None:
    """Sequence 1 gets sequence 0's first pages, and goes on as sequence 0 would."""
    backend = CpuBackend(dtype, 2)
    caches = [backend.kv_cache(group, PAGES) for group in GROUPS]
    program = backend.compile(build_decoder(backend).logits, caches, LIMITS)

    def logits(batch: Batch) -> Floats:
        return backend.numpy(program.run(batch)).copy()

    def go_on(seed: int) -> Floats:
        tables = batch_of([Span(20, 4, seed)], groups=2, pages=PAGES, tokens=VOCAB).block_tables
        batch = batch_of([Span(20, 4, 0)], groups=2, pages=PAGES, tokens=VOCAB)
        return logits(Batch(**{**vars(batch), "block_tables": tables}))

    prompt = batch_of([Span(0, 20, 0)], groups=2, pages=PAGES, tokens=VOCAB)
    logits(prompt)
    copy = batch_of([Span(0, 20, 1)], groups=2, pages=PAGES)
    for cache, sources, targets in zip(caches, prompt.block_tables, copy.block_tables, strict=True):
        backend.copy_pages(cache, sources[0].tolist(), targets[0].tolist())
    np.testing.assert_array_equal(go_on(1), go_on(0))
    with pytest.raises(BackendError, match="Pages to copy"):
        backend.copy_pages(caches[0], [0], [PAGES])


# --- what it refuses ---


def changed(**fields: Any) -> Batch:
    batch = batch_of([Span(0, 3, 0), Span(5, 1, 1)], groups=2, pages=PAGES, tokens=VOCAB)
    return Batch(**{**vars(batch), **fields})


def ints(*values: int) -> NDArray[np.int32]:
    return np.asarray(values, np.int32)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"token_ids": ints(1, 2, VOCAB, 3)}, "outside the vocabulary"),
        ({"token_ids": ints(1, 2, -1, 3)}, "outside the vocabulary"),
        ({"positions": ints(0, 1, 2)}, "as many positions"),
        ({"positions": ints(0, 2, 1, 5)}, "consecutive"),
        ({"query_starts": ints(0, 4)}, "query_starts"),
        ({"query_starts": ints(0, 9, 4)}, "must have rows"),
        ({"query_starts": ints(0, 0, 4)}, "must have rows"),
        ({"context_lens": ints(2, 6)}, "at least as long"),
        ({"logit_rows": ints(4)}, "not a row"),
        ({"adapter_ids": ints(0, 0, 1, 0)}, "no room"),
        ({"block_tables": ()}, "block table"),
        ({"block_tables": (ints(PAGES, 1)[:, None],) * 2}, "does not exist"),
        ({"block_tables": (ints(-1, 1)[:, None],) * 2}, "does not exist"),
        ({"block_tables": (ints(1)[:, None],) * 2}, "row of the block table"),
        ({"positions": ints(0, 1, 2, 200), "context_lens": ints(3, 201)}, "beyond the longest"),
        ({"positions": ints(0, 1, 2, 20), "context_lens": ints(3, 21),
          "block_tables": (ints(0, 1)[:, None],) * 2}, "shorter than its context"),
    ],
)  # fmt: skip
def test_a_wrong_batch_is_refused_and_harms_nothing(fields: dict[str, Any], message: str) -> None:
    runner = Runner(CpuBackend("float32", 2))
    before = runner.logits(Span(0, 3))
    with pytest.raises(BackendError, match=message):
        runner.program.run(changed(**fields))
    np.testing.assert_array_equal(runner.logits(Span(0, 3)), before)


def test_what_does_not_fit_is_refused() -> None:
    backend = CpuBackend("float32", 1)
    weights = Weights()
    limits = BatchLimits(4, 4, 4)
    table, linear = backend.embedding(weights.tensor(9, 8)), weights.linear(backend, 4, 7)
    with pytest.raises(BackendError, match="inputs"):
        backend.compile(lambda ops: ops.norm_linear(ops.embed(table), None, linear), [], limits)
    one = AttentionSpec(1, 1, 2, 1.0)
    with pytest.raises(BackendError, match="KV cache"):
        backend.compile(lambda ops: ops.rotary_write(ops.embed(table), one, None), [], limits)
    cache = backend.kv_cache(KVSpec(1, 1, 2), 4)
    far = AttentionSpec(1, 1, 2, 1.0, kv_layer=1)
    with pytest.raises(BackendError, match="KV layer"):
        backend.compile(lambda ops: ops.rotary_write(ops.embed(table), far, None), [cache], limits)
    packed = backend.kv_cache(KVSpec(1, 1, 2, format=INT8_KV), 4)
    with pytest.raises(BackendError, match="pages of its own numbers"):
        backend.compile(lambda ops: ops.rotary_write(ops.embed(table), one, None), [packed], limits)
    both = AttentionSpec(1, 1, 2, 1.0, far=FarKV(1, INT8_KV))
    with pytest.raises(BackendError, match="far pages are packed"):
        backend.compile(
            lambda ops: ops.rotary_write(ops.embed(table), both, None), [cache, cache], limits
        )
    head = weights.linear(backend, 8, 8)
    with pytest.raises(BackendError, match="go on from"):
        backend.compile(
            lambda ops: ops.norm_linear(ops.logits(ops.embed(table), head), None, head), [], limits
        )
    with pytest.raises(BackendError, match="must be portable"):
        CpuBackend(isa="sse9")


def test_the_environment_chooses_a_lower_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVACE_ISA", "portable")
    assert CpuBackend().isa == "portable"
    monkeypatch.setenv("VIVACE_ISA", "")
    assert CpuBackend().isa == _native.best_isa()


def test_without_native_code_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vivace.backends.cpu._native", None)
    monkeypatch.delitem(sys.modules, "vivace.backends.cpu.backend")
    monkeypatch.delattr("vivace.backends.cpu._native")
    with pytest.raises(BackendError, match=r"install a C\+\+20 compiler"):
        CpuBackend()


def test_more_memory_takes_longer_to_read() -> None:
    runtime = _native.Runtime(2, "")
    seconds = [size / runtime.read_bandwidth(size) for size in (2**24, 2**28)]
    assert 0 < seconds[0] < seconds[1]


def test_rows_beyond_a_buffer_are_refused() -> None:
    runtime = _native.Runtime(1, "")
    program = _native.Program(runtime, _native.DType.float32, [], (400, 1, 2), [400 * 64])
    assert program.output((0, 64), 400).shape == (400, 64)
    for place, rows in (((0, 64), 4000), ((0, 6400), 400), ((0, -1), 1), ((1, 64), 1)):
        with pytest.raises(IndexError):
            program.output(place, rows)
    norm = _native.Norm(_native.NormKind.rms, _native.Vector(np.ones(640, np.float32)), None, 0.1)
    with pytest.raises(IndexError, match="do not fit its buffer"):
        program.norm((0, 640), (0, 640), norm)
