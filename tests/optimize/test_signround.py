"""Rounding that is learnt: nearer in output than rounding to nearest, on the grid that it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.optimize.models import write_model
from tests.optimize.test_quantize_models import QKV, distance, made
from vivace.formats.checkpoint import open_checkpoint

pytestmark = pytest.mark.oracle


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quicker, and enough for a model so small."""
    pytest.importorskip("torch")
    monkeypatch.setattr("vivace.optimize.quantize.signround.STEPS", 40)


def test_nearer_than_rounding_to_nearest(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=1)
    distances = {}
    for method in ("rtn", "signround"):
        made(folder, tmp_path / method, "int3-g32-zp", method)
        distances[method] = distance(folder, tmp_path / method)
    assert distances["signround"] < 0.8 * distances["rtn"]


@pytest.mark.parametrize(
    ("family", "scheme"), [("gemma2", "int4-g32-a16"), ("phi3", "int4-g32-zp-a16")]
)
def test_other_families(family: str, scheme: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", family, num_hidden_layers=1)
    made(folder, tmp_path / "out", scheme, "signround")
    assert distance(folder, tmp_path / "out") < 0.1


def test_linears_without_a_scheme_stay(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=1)
    made(folder, tmp_path / "out", "int8,*.down=none", "signround")
    before, after = (open_checkpoint(path).tensors for path in (folder, tmp_path / "out"))
    down = "model.layers.0.mlp.down_proj.weight"
    np.testing.assert_array_equal(after.get(down).to_float32(), before.get(down).to_float32())
    assert after.get(QKV).scheme.bits == 8
    assert distance(folder, tmp_path / "out") < 0.002
