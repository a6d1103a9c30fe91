"""Mixed precision: the exact choice under a budget, by what each linear costs."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tests.optimize.models import runs, write_model
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import UsageError
from vivace.formats.checkpoint import open_checkpoint
from vivace.models.loader import model_spec, role_shapes
from vivace.optimize.quantize.allocate import allocate
from vivace.optimize.quantize.rtn import rtn
from vivace.optimize.quantize.schemes import STORED
from vivace.optimize.quantize.sensitivity import Judge, mixed, sensitivities, stored_bytes
from vivace.optimize.quantize.stored import as_arrays

pytestmark = pytest.mark.tiny

KINDS = [STORED[name] for name in ("int8", "int4-g32", "int3-g32-zp")]


def test_it_is_the_best_of_all_choices() -> None:
    pytest.importorskip("scipy")
    rng = np.random.default_rng(0)
    for items in range(1, 7):
        costs = np.sort(rng.exponential(1, (items, 3)), axis=1) * 1e-4
        sizes = np.sort(rng.integers(100, 5000, (items, 3)), axis=1)[:, ::-1]
        budget = int(sizes.min(axis=1).sum() + rng.integers(0, 3000))
        found = allocate(costs.tolist(), sizes.tolist(), budget)
        rows = np.arange(items)
        assert sizes[rows, found].sum() <= budget
        every = [list(each) for each in product(range(3), repeat=items)]
        best = min(costs[rows, each].sum() for each in every if sizes[rows, each].sum() <= budget)
        assert costs[rows, found].sum() == pytest.approx(best)


def test_a_budget_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="takes 30 bytes, more than 29"):
        allocate([[1, 2], [1, 2]], [[20, 10], [40, 20]], 29)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_sizes_are_those_of_the_files(kind: object) -> None:
    weights = np.random.default_rng(1).standard_normal((20, 96)).astype(np.float32)
    scheme = STORED[kind.name]  # type: ignore[attr-defined]
    arrays = as_arrays("x.weight", rtn(weights, scheme))
    stored = sum(array.nbytes for name, array in arrays.items() if not name.endswith("_shape"))
    assert stored_bytes(scheme, 20, 96) == stored


def test_what_costs_more_gets_more_bits(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    folder = write_model(tmp_path, num_hidden_layers=1)
    checkpoint = open_checkpoint(folder)
    spec = model_spec(checkpoint.config)
    roles = [f"layers.0.{name}" for name in ("attention.qkv", "attention.out", "mlp.down")]
    choices = [(role, kind) for role in roles for kind in KINDS]
    costs = sensitivities(Judge(checkpoint, ReferenceBackend(), runs()), choices)
    for role in roles:
        by_kind = [costs[role, kind] for kind in KINDS]
        assert 0 < by_kind[0] < by_kind[1] < by_kind[2]
    shapes = role_shapes(spec)
    kept = mixed(costs, shapes, 9)
    assert {scheme.bits for scheme in kept.values()} == {8}
    chosen = mixed(costs, shapes, 5.5)
    total = sum(stored_bytes(chosen[role], *shape) for role in roles for shape in shapes[role])
    weights = sum(int(np.prod(shape)) for role in roles for shape in shapes[role])
    assert total * 8 <= 5.5 * weights
    assert len({scheme.bits for scheme in chosen.values()}) > 1
