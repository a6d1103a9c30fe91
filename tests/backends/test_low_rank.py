"""Low-rank adapters beside linears: every backend as the reference, and on the cpu backend rows
that do not know their company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cpu_cases import LIMITS, ROWS, Floats, Span, Weights, batch_of, relative_error

from vivace.backends.low_rank import AdapterRoom, LowRank
from vivace.backends.protocol import (
    Activation,
    Backend,
    Batch,
    LinearForm,
    Norm,
    Residual,
)
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import BackendError
from vivace.formats.qtensor import INT8

pytest.importorskip("vivace.backends.cpu._native")

from vivace.backends.cpu import CpuBackend, _native
from vivace.hardware.isa import levels_up_to

LEVELS = levels_up_to(_native.best_isa())
TOLERANCE = {"float32": 3e-5, "bfloat16": 2e-2}
K, OUTPUTS = 70, (40, 18, 18)
N = sum(OUTPUTS)
IDS = (1, 0, 2, 2, 0, 1, 3, 0, 2)  # of the rows; slot 3 is empty
KINDS = ("plain", "gated", "ungated", "residual", "post-norm")


def layer(kind: str, backend: Backend, room: AdapterRoom | None, scheme: Any = None) -> Any:
    """A forward of one linear, and the linear."""
    weights = Weights(3)
    table = backend.embedding(weights.tensor(ROWS, K))
    into = backend.embedding(weights.tensor(ROWS, N))
    norm = Norm("rms", backend.vector(weights.gain(K)), 1e-6)
    form = LinearForm(scheme, gated=kind == "gated", adapters=room)
    parts = [weights.tensor(n, K, scale=K**-0.5) for n in OUTPUTS]
    linear = backend.linear(parts, [weights.tensor(n) for n in OUTPUTS], form=form)
    post_norm = Norm("rms", backend.vector(weights.gain(N)), 1e-6)
    activations = {"gated": Activation("silu", True), "ungated": Activation("gelu", False)}
    residuals = {"residual": None, "post-norm": post_norm}

    def forward(ops: Any) -> Any:
        x = ops.embed(table)
        if kind in residuals:
            return ops.linear_residual(x, linear, Residual(ops.embed(into), residuals[kind], 0.4))
        return ops.norm_linear(x, norm, linear, activations.get(kind))

    return forward, linear


def adapters() -> dict[int, list[LowRank]]:
    """In slot 1 all parts with ranks of their own, in slot 2 the middle one alone."""
    weights = Weights(9)

    def part(first: int, outputs: int, rank: int, scale: float) -> LowRank:
        a = weights.tensor(rank, K, scale=K**-0.5)
        return LowRank(first, a, weights.tensor(outputs, rank), scale)

    firsts = np.cumsum([0, *OUTPUTS[:-1]]).tolist()
    ranks = (1, 8, 5)
    all_parts = [part(*one, 0.7) for one in zip(firsts, OUTPUTS, ranks, strict=True)]
    return {1: all_parts, 2: [part(firsts[1], OUTPUTS[1], 3, -1.3)]}


def rows_of(ids: Any, first: int = 0) -> Batch:
    """Rows of one sequence, whose tokens are `first` and those behind it."""
    batch = batch_of([Span(first, len(ids))])
    chosen = None if ids is None else np.asarray(ids, np.int32)
    return Batch(**{**vars(batch), "adapter_ids": chosen})


def make_backend(name: str, dtype: Any = "float32") -> Backend:
    if name != "torch":
        return {"cpu": CpuBackend, "reference": ReferenceBackend}[name](dtype)
    pytest.importorskip("torch")
    from vivace.backends.torch import TorchBackend

    return TorchBackend(dtype)


class Layer:
    """One linear with adapters on one backend."""

    def __init__(self, kind: str, backend: Backend, scheme: Any = None) -> None:
        forward, linear = layer(kind, backend, AdapterRoom(3, 8), scheme)
        for slot, parts in adapters().items():
            backend.set_adapter(linear, slot, parts)
        self.backend, self.linear = backend, linear
        self.program = backend.compile(forward, (), LIMITS)

    def run(self, batch: Batch) -> Floats:
        return self.backend.numpy(self.program.run(batch)).copy()


@pytest.fixture(params=["float32", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("scheme", [None, INT8], ids=["floats", "int8"])
def test_the_cpu_adds_what_the_reference_does(kind: str, isa: str, dtype: Any, scheme: Any) -> None:
    expected = Layer(kind, ReferenceBackend(dtype), scheme).run(rows_of(IDS))
    found = Layer(kind, CpuBackend(dtype, 2, isa), scheme).run(rows_of(IDS))
    assert relative_error(found, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", KINDS)
def test_torch_adds_what_the_reference_does(kind: str, dtype: Any) -> None:
    expected = Layer(kind, ReferenceBackend(dtype)).run(rows_of(IDS))
    found = Layer(kind, make_backend("torch", dtype)).run(rows_of(IDS))
    assert relative_error(found, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_the_reference_adds_the_products_themselves(kind: str) -> None:
    """Rows with an adapter are those of weights that it was merged into."""
    backend = ReferenceBackend()
    one = Layer(kind, backend)
    found = one.run(rows_of(IDS))
    merged = one.linear.weight.values.copy()
    for part in adapters()[1]:
        product = part.b.to_float32() @ part.a.to_float32()
        merged[part.first : part.first + len(product)] += np.float32(part.scale) * product
    one.linear.weight.values[:] = merged
    mine = np.flatnonzero(np.asarray(IDS) == 1)
    expected = one.run(rows_of([0] * len(IDS)))
    np.testing.assert_allclose(found[mine], expected[mine], rtol=1e-4, atol=1e-5)
    others = np.flatnonzero(np.asarray(IDS) == 2)
    assert np.abs(found[others] - expected[others]).max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("isa", LEVELS)
@pytest.mark.parametrize("scheme", [None, INT8], ids=["floats", "int8"])
def test_rows_do_not_know_their_company(kind: str, isa: str, dtype: Any, scheme: Any) -> None:
    """Bit for bit: alone, among others, on other threads; and without an adapter as if there were
    none anywhere."""
    one = Layer(kind, CpuBackend(dtype, 2, isa), scheme)
    ids = IDS * 12
    together = one.run(rows_of(ids))
    np.testing.assert_array_equal(
        Layer(kind, CpuBackend(dtype, 1, isa), scheme).run(rows_of(ids)), together
    )
    alone = [one.run(rows_of([slot], row)) for row, slot in enumerate(ids[:9])]
    np.testing.assert_array_equal(np.concatenate(alone), together[:9])
    backend = CpuBackend(dtype, 2, isa)
    bare = backend.compile(layer(kind, backend, None, scheme)[0], (), LIMITS)
    plain = backend.numpy(bare.run(rows_of([0] * len(ids)))).copy()
    without = np.flatnonzero(np.isin(ids, (0, 3)))
    np.testing.assert_array_equal(together[without], plain[without])
    batch = Batch(**{**vars(rows_of(ids)), "adapter_ids": None})
    np.testing.assert_array_equal(one.run(batch), plain)


@pytest.mark.parametrize("name", ["cpu", "reference", "torch"])
def test_a_slot_is_emptied_and_filled_anew(name: str) -> None:
    one = Layer("plain", make_backend(name))
    before = one.run(rows_of(IDS))
    one.backend.set_adapter(one.linear, 1, [])
    np.testing.assert_array_equal(one.run(rows_of(IDS))[0], one.run(rows_of([0] * len(IDS)))[0])
    one.backend.set_adapter(one.linear, 1, adapters()[1])
    np.testing.assert_array_equal(one.run(rows_of(IDS)), before)


@pytest.mark.parametrize("name", ["cpu", "reference"])
@pytest.mark.parametrize(
    ("slot", "first", "shape"),
    [(4, 0, (2, K, 9)), (0, 0, (2, K, 9)), (1, N - 8, (2, K, 9)), (1, -1, (2, K, 9)),
     (1, 0, (2, K - 1, 9))],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    name: str, slot: int, first: int, shape: tuple[int, int, int]
) -> None:
    one = Layer("plain", make_backend(name))
    rank, inputs, outputs = shape
    weights = Weights()
    part = LowRank(first, weights.tensor(rank, inputs), weights.tensor(outputs, rank), 1.0)
    with pytest.raises(BackendError):
        one.backend.set_adapter(one.linear, slot, [part])


@pytest.mark.parametrize("name", ["cpu", "reference", "torch"])
def test_rows_beyond_the_room_are_refused_and_not_ignored(name: str) -> None:
    one = Layer("plain", make_backend(name))
    with pytest.raises(BackendError, match="no room"):
        one.run(rows_of([1, 4]))


def test_the_cpu_refuses_ranks_beyond_its_room() -> None:
    one = Layer("plain", CpuBackend())
    weights = Weights()
    big = LowRank(0, weights.tensor(25, K), weights.tensor(9, 25), 1.0)
    with pytest.raises(BackendError, match="rank"):
        one.backend.set_adapter(one.linear, 1, [big])
    with pytest.raises(BackendError, match="as many adapter ids"):
        one.run(Batch(**{**vars(rows_of([1, 1])), "adapter_ids": np.ones(1, np.int32)}))
