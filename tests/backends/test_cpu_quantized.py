"""Integer weights on the cpu backend: bit for bit the reference's integer sums, at every level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cpu_cases import (
    LIMITS,
    ROWS,
    Floats,
    MakeForward,
    Span,
    Weights,
    batch_of,
    relative_error,
    run,
)

from vivace.backends.protocol import PLAIN, Activation, Backend, Experts, LinearForm, Norm, Residual
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import BackendError
from vivace.formats.qtensor import BFLOAT16, FLOAT16, FLOAT32, INT8, Array, QTensor, Scheme
from vivace.formats.rounding import round_to
from vivace.formats.schemes import NESTED, SCHEMES, int4, plane_of, scheme_named

pytest.importorskip("vivace.backends.cpu._native")

from vivace.backends.cpu import CpuBackend, _native
from vivace.hardware.isa import levels_up_to

LEVELS = levels_up_to(_native.best_isa())
INTEGER_ROWS = [scheme for scheme in SCHEMES.values() if scheme.activation_bits == 8]
SHAPES = [(1, 1), (33, 7), (64, 32), (97, 100), (130, 31), (256, 65), (300, 64)]  # (k, n)
SILU = Activation("silu", True)


@pytest.fixture(params=LEVELS)
def isa(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SCHEMES.values(), ids=str)
def scheme(request: pytest.FixtureRequest) -> Any:
    return request.param


def linear_of(
    parts: Sequence[QTensor], form: LinearForm = PLAIN, inputs: Floats | None = None
) -> MakeForward:
    """Rows of `inputs`, or random ones, times stacked parts."""

    def make(backend: Backend, weights: Weights) -> Any:
        k = parts[0].shape[1]
        values = weights.rng.standard_normal((ROWS, k)) if inputs is None else inputs
        table = backend.embedding(QTensor.from_array("rows", values.astype(np.float32)))
        linear = backend.linear(parts, form=form)
        return lambda ops: ops.norm_linear(ops.embed(table), None, linear)

    return make


def both(make: MakeForward, isa: str, rows: int) -> tuple[Floats, Floats]:
    batches = [batch_of([Span(0, rows)])]
    expected = run(ReferenceBackend(), make, batches)[0]
    return run(CpuBackend("float32", 2, isa), make, batches)[0], expected


def random_tensor(n: int, k: int, seed: int = 0) -> QTensor:
    return Weights(seed).tensor(n, k)


def assert_products(actual: Floats, expected: Floats, isa: str, scheme: Scheme) -> None:
    """Bit for bit where sums are integers; the portable level does not fuse adding groups."""
    if scheme.activation_bits == 8 and isa != "portable":
        np.testing.assert_array_equal(actual, expected)
    else:
        assert relative_error(actual, expected) < 2e-5


# --- products ---


@pytest.mark.parametrize(("k", "n"), SHAPES)
def test_rounded_while_packing_equals_rounded_before(
    isa: str, scheme: Scheme, k: int, n: int
) -> None:
    tensor = random_tensor(n, k)
    backend, batches = CpuBackend("float32", 2, isa), [batch_of([Span(0, 3)])]
    packed = run(backend, linear_of([tensor], LinearForm(scheme)), batches)
    stored = run(backend, linear_of([round_to(tensor, scheme)]), batches)
    np.testing.assert_array_equal(packed[0], stored[0])


@pytest.mark.parametrize(("k", "n"), SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 9, 130])
def test_products_are_the_reference_s(isa: str, scheme: Scheme, k: int, n: int, rows: int) -> None:
    actual, expected = both(linear_of([round_to(random_tensor(n, k), scheme)]), isa, rows)
    assert_products(actual, expected, isa, scheme)


def nested_tensor(n: int, k: int, scheme: Scheme) -> QTensor:
    whole = random_tensor(n, k)
    first = round_to(whole, plane_of(scheme))
    rest = QTensor.from_array("rest", whole.to_float32() - first.to_float32())
    planes = first.buffers, round_to(rest, plane_of(scheme)).buffers
    buffers = {key: np.concatenate([plane[key] for plane in planes], axis=1) for key in planes[0]}
    return QTensor("nested", (n, k), scheme, buffers)


@pytest.mark.parametrize("scheme", NESTED.values(), ids=str)
@pytest.mark.parametrize("rows", [1, 9, 130])
def test_planes_add_up(isa: str, scheme: Scheme, rows: int) -> None:
    tensor = nested_tensor(65, 256, scheme)
    actual, expected = both(linear_of([tensor]), isa, rows)
    assert_products(actual, expected, isa, scheme)
    error = relative_error(tensor.to_float32(), random_tensor(65, 256).to_float32())
    assert error < 0.01


@pytest.mark.parametrize("scheme", [NESTED["nested-g64"], NESTED["nested-g64-a16"]], ids=str)
def test_planes_take_normed_rows_and_residuals(isa: str, scheme: Scheme) -> None:
    def make(backend: Backend, weights: Weights) -> Any:
        norm = Norm("rms", backend.vector(weights.tensor(128)), 1e-5)
        table = backend.embedding(weights.tensor(ROWS, 128))
        up = backend.linear([nested_tensor(128, 128, scheme)])
        return lambda ops: ops.linear_residual(
            ops.norm_linear(ops.embed(table), norm, up), up, Residual(ops.embed(table))
        )

    actual, expected = both(make, isa, 9)
    assert relative_error(actual, expected) < 1e-3  # norms are not exact


def test_planes_need_whole_groups() -> None:
    tensor = nested_tensor(4, 64, NESTED["nested-g64"])
    odd = QTensor("odd", (4, 48), tensor.scheme, tensor.buffers)
    with pytest.raises(BackendError, match="planes and whole groups"):
        CpuBackend("float32", 1).linear([odd])


@pytest.mark.parametrize("stored", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_parts_of_every_float_type_are_rounded_alike(isa: str, stored: Any) -> None:
    parts = [random_tensor(n, 70, seed=n) for n in (19, 32, 50)]
    floats = [QTensor.from_array("part", part.buffers["weight"].astype(stored)) for part in parts]
    for scheme in INTEGER_ROWS:
        actual, expected = both(linear_of(floats, LinearForm(scheme)), isa, 5)
        assert_products(actual, expected, isa, scheme)


@pytest.mark.parametrize("low", [False, True])
def test_extreme_codes_do_not_saturate(isa: str, scheme: Scheme, low: bool) -> None:
    """The largest sums there are: every code and every activation at its end."""
    n, k = 33, 1100
    make = linear_of([_extreme(n, k, scheme, low)], inputs=np.full((ROWS, k), 3.0, np.float32))
    actual, expected = both(make, isa, 3)
    assert_products(actual, expected, isa, scheme)


def _extreme(n: int, k: int, scheme: Scheme, low: bool) -> QTensor:
    if scheme.group_size is None:
        codes = np.full((n, k), -128 if low else 127, np.int8)  # rounding makes no -128
        scales = np.ones((n, 1), np.float32)
        return QTensor("extreme", (n, k), scheme, {"weight": codes, "weight_scale": scales})
    groups = -(-k // scheme.group_size)
    buffers: dict[str, Array] = {
        "weight_packed": np.full((n, k // 2), 0x00 if low else 0xFF, np.uint8),
        "weight_scale": np.ones((n, groups), np.float16),
    }
    if scheme.zero_points:
        buffers["weight_zero_point"] = np.full((n, groups), 15 if low else 0, np.uint8)
    return QTensor("extreme", (n, k), scheme, buffers)


def test_each_row_has_its_own_scale(isa: str, scheme: Scheme) -> None:
    """Zeros, tiny, huge and mixed rows."""
    k = 70
    values = np.random.default_rng(1).standard_normal((6, k)).astype(np.float32)
    sizes = np.asarray([0, 1e-32, 1e-20, 1, 1e4, 1e20], np.float32)
    inputs = np.tile(values * sizes[:, None], (ROWS // 6, 1))
    inputs[5, 0] = 3e30  # one value drowns the others
    weight = round_to(random_tensor(20, k), scheme)
    make = linear_of([weight], inputs=inputs)
    actual, expected = both(make, isa, 6)
    for a, e in zip(actual, expected, strict=True):
        assert_products(a, e, isa, scheme)


@pytest.mark.parametrize("weights", INTEGER_ROWS, ids=str)
@pytest.mark.parametrize("rows", [1, 9, 40])
def test_a_row_that_is_not_finite_has_no_number_in_its_products(
    isa: str, weights: Scheme, rows: int
) -> None:
    """And changes no other row."""
    k = 70
    inputs = np.random.default_rng(1).standard_normal((ROWS, k)).astype(np.float32)
    whole = inputs.copy()
    for row, value in ((0, np.nan), (7, np.inf), (14, -np.inf), (21, np.nan)):
        inputs[row, row + 3] = value
    inputs[7, 0] = 3e38
    make = [linear_of([round_to(random_tensor(40, k), weights)], inputs=x) for x in (inputs, whole)]
    actual, expected = both(make[0], isa, rows)
    spoilt = np.isnan(expected).any(axis=1)
    assert spoilt.sum() == min(rows, 4)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    assert np.isnan(actual[spoilt]).all()
    np.testing.assert_array_equal(actual[~spoilt], both(make[1], isa, rows)[0][~spoilt])


# --- ops ---


@pytest.mark.parametrize("width", [1, 16, 43, 64])
@pytest.mark.parametrize("stored", [None, np.float32, np.float16, ml_dtypes.bfloat16])
def test_embedding_in_int8(isa: str, width: int, stored: Any) -> None:
    """Rounded while packing or before, beside positions that stay floats; the norm's sums differ in
    their last bits."""

    def make(backend: Backend, weights: Weights) -> Any:
        table, positions = weights.tensor(ROWS, width), weights.tensor(200, width)
        table.buffers["weight"][7] = 0
        if stored is None:
            tokens = backend.embedding(round_to(table, INT8))
        else:
            floats = QTensor.from_array("table", table.buffers["weight"].astype(stored))
            tokens = backend.embedding(floats, INT8)
        places = backend.embedding(positions)
        norm = Norm("rms", backend.vector(weights.gain(width)), 1e-6)

        def forward(ops: Any) -> Any:
            x = ops.embed(tokens, 6.5, places)
            return ops.norm(x, norm)

        return forward

    actual, expected = both(make, isa, 40)
    assert relative_error(actual, expected) < 1e-6


def test_an_embedding_in_int8_takes_a_byte_a_value() -> None:
    table = CpuBackend("float32").embedding(random_tensor(10, 48), INT8)
    assert table.nbytes == 10 * (48 + 4)


@pytest.mark.parametrize("scheme", [int4(32), FLOAT16])
def test_no_other_embedding(scheme: Scheme) -> None:
    with pytest.raises(BackendError, match="int8 for the embedding"):
        CpuBackend().embedding(random_tensor(4, 64), scheme)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("inner", [1, 16, 37, 48])
def test_activation_is_part_of_the_product(
    isa: str, scheme: Scheme, gated: bool, inner: int
) -> None:
    activation = Activation("silu", gated)
    n = 2 * inner if gated else inner

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 70))
        form = LinearForm(scheme, gated)
        linear = backend.linear([weights.tensor(n, 70)], [weights.tensor(n)], form=form)
        return lambda ops: ops.norm_linear(ops.embed(table), None, linear, activation)

    actual, expected = both(make, isa, 9)
    assert actual.shape == (9, inner)
    assert relative_error(actual, expected) < 2e-5


@pytest.mark.parametrize("rows", [1, 40])
def test_experts(isa: str, scheme: Scheme, rows: int) -> None:
    hidden, inner, count = 44, 37, 4

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, hidden))
        experts = Experts(
            router=backend.linear([weights.tensor(count, hidden, scale=3)]),
            up=tuple(
                weights.linear(backend, 2 * inner, hidden, True, LinearForm(scheme, True))
                for _ in range(count)
            ),
            down=tuple(
                weights.linear(backend, hidden, inner, True, LinearForm(scheme))
                for _ in range(count)
            ),
            activation=SILU,
            top_k=2,
            renormalize=True,
        )

        def forward(ops: Any) -> Any:
            x = ops.embed(table)
            return ops.experts_residual(x, None, experts, Residual(x))

        return forward

    actual, expected = both(make, isa, rows)
    assert relative_error(actual, expected) < 1e-2  # an inner value may fall to the next code


@pytest.mark.parametrize("half", ["up", "down"])
def test_experts_share_one_format(half: str) -> None:
    """Their rows are packed once, as the first one takes them."""
    backend, weights = CpuBackend(), Weights()
    odd = {half: LinearForm(int4(32), gated=half == "up")}

    def linears(name: str) -> tuple[Any, ...]:
        form = LinearForm(INT8, gated=name == "up")
        forms = (form, odd.get(name, form))
        n = 128 if name == "up" else 64
        return tuple(weights.linear(backend, n, 64, form=form) for form in forms)

    experts = Experts(
        router=weights.linear(backend, 2, 64),
        up=linears("up"),
        down=linears("down"),
        activation=SILU,
        top_k=1,
        renormalize=True,
    )
    table = backend.embedding(weights.tensor(ROWS, 64))

    def forward(ops: Any) -> Any:
        x = ops.embed(table)
        return ops.experts_residual(x, None, experts, Residual(x))

    with pytest.raises(BackendError, match="formats of experts"):
        backend.compile(forward, [], LIMITS)


def test_a_row_is_the_same_in_any_company(isa: str, scheme: Scheme) -> None:
    """Bit for bit: alone and among others, normed, quantized, activated and added."""
    count = 70

    def make(backend: Backend, weights: Weights) -> Any:
        table = backend.embedding(weights.tensor(ROWS, 140))
        norm = Norm("rms", backend.vector(weights.gain(140)), 1e-6)
        up = weights.linear(backend, 90, 140, True, LinearForm(scheme, True))
        down = weights.linear(backend, 140, 45, True, LinearForm(scheme))

        def forward(ops: Any) -> Any:
            x = ops.embed(table)
            return ops.linear_residual(ops.norm_linear(x, norm, up, SILU), down, Residual(x))

        return forward

    batches = [batch_of([Span(0, count)]), *(batch_of([Span(row, 1)]) for row in range(count))]
    batches.append(batch_of([Span(0, 17), Span(0, count, 2)]))
    whole, *alone, crowd = run(CpuBackend("float32", 2, isa), make, batches)
    np.testing.assert_array_equal(np.concatenate(alone), whole)
    np.testing.assert_array_equal(crowd[:17], whole[:17])


# --- which schemes there are ---


def test_a_linear_may_be_float_where_the_backend_is_not(isa: str) -> None:
    for scheme, dtype in ((FLOAT32, "bfloat16"), (BFLOAT16, "float32")):
        make = linear_of([random_tensor(40, 50)], LinearForm(scheme))
        batches = [batch_of([Span(0, 5)])]
        kept = run(CpuBackend(scheme.name, 2, isa), make, batches)[0]  # type: ignore[arg-type]
        asked = run(CpuBackend(dtype, 2, isa), make, batches)[0]  # type: ignore[arg-type]
        assert relative_error(asked, kept) < 1e-2  # the inputs come from tables of another type
        backend = CpuBackend(dtype, 2, isa)  # type: ignore[arg-type]
        linear = backend.linear([random_tensor(64, 64)], form=LinearForm(scheme))
        assert linear.nbytes == scheme.matrix_bytes(64, 64)


@pytest.mark.parametrize(
    "scheme",
    [
        FLOAT16,
        *map(int4, (48, 96, 160, 256)),
        Scheme("int8-a16", 8),
        Scheme("int3", 3, 32, activation_bits=8),
    ],
)
def test_other_schemes_are_refused(scheme: Scheme) -> None:
    with pytest.raises(BackendError, match=f"cannot multiply by weights in {scheme.name}"):
        CpuBackend().linear([random_tensor(4, 4)], form=LinearForm(scheme))


@pytest.mark.parametrize("group", [0, 16, 96, 160, 256])
def test_native_code_takes_no_other_group(group: int) -> None:
    format = _native.WeightFormat(_native.WeightKind.int4, _native.RowKind.int8, group, False)
    with pytest.raises(ValueError, match="groups of 32, 64 or 128"):
        _native.Linear(_native.Runtime(1, ""), format, (4, 512), 1, False, None)


def test_parts_of_one_matrix_have_one_scheme() -> None:
    one, other = round_to(random_tensor(4, 64), INT8), round_to(random_tensor(4, 64), int4(32))
    for parts in ([one, other], [one, random_tensor(4, 64)]):
        with pytest.raises(BackendError, match="one scheme"):
            CpuBackend().linear(parts)
    assert CpuBackend().linear([one, random_tensor(4, 64)], form=LinearForm(INT8)).n == 8


def test_gates_and_ups_come_in_pairs() -> None:
    with pytest.raises(BackendError, match="pairs"):
        CpuBackend().linear([random_tensor(3, 4)], form=LinearForm(gated=True))


def test_fewer_bytes_are_kept() -> None:
    tensor = random_tensor(64, 512)
    sizes = {
        name: CpuBackend("bfloat16").linear([tensor], form=LinearForm(scheme_named(name))).nbytes
        for name in ("int8", "int4-g32", "int4-g128")
    }
    assert sizes == {
        "int8": 64 * (512 + 4),
        "int4-g32": 64 * (256 + 2 * 16),
        "int4-g128": 64 * (256 + 2 * 4),
    }
