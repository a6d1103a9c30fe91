"""Rounding that is learnt: nearer in output than rounding to nearest, on the grid that it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.optimize.models import FAMILIES, write_model
from tests.optimize.test_quantize_models import QKV, distance, made
from vivace.formats.checkpoint import open_checkpoint

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _installed() -> None:
    pytest.importorskip("torch")


@pytest.mark.parametrize("scheme", ["int4-g32-a16", "int3-g32-zp", "int2-g32-zp"])
def test_nearer_than_rounding_to_nearest(scheme: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=1)
    distances = {}
    for method in ("rtn", "signround"):
        made(folder, tmp_path / method, scheme, method)
        distances[method] = distance(folder, tmp_path / method)
    assert distances["signround"] < 0.8 * distances["rtn"]


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "llama"])
def test_every_family(family: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", family, num_hidden_layers=1)
    made(folder, tmp_path / "out", "int4-g32-a16", "signround")
    assert distance(folder, tmp_path / "out") < 0.1


def test_linears_without_a_scheme_stay(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=1)
    made(folder, tmp_path / "out", "int8,*.down=none", "signround")
    before, after = (open_checkpoint(path).tensors for path in (folder, tmp_path / "out"))
    down = "model.layers.0.mlp.down_proj.weight"
    np.testing.assert_array_equal(after.get(down).to_float32(), before.get(down).to_float32())
    assert after.get(QKV).scheme.bits == 8
    assert distance(folder, tmp_path / "out") < 0.002
