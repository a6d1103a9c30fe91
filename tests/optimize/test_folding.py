"""What goes into a layer's linears, and folds that change nothing that it computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from tests.optimize.matrices import scheme
from tests.optimize.models import FAMILIES, runs, write_model
from vivace.backends.reference import ReferenceBackend
from vivace.formats.checkpoint import Tensors, open_checkpoint
from vivace.formats.qtensor import QTensor
from vivace.models.loader import checked_plan, model_spec
from vivace.optimize.layer import LINEARS, Edited, WorkingLayer
from vivace.optimize.quantize.folding import all_folds, fold
from vivace.optimize.quantize.rtn import rtn
from vivace.optimize.quantize.stored import store
from vivace.optimize.states import HiddenStates

EXPECTED = {
    "llama": {"attention.qkv", "mlp.up", "mlp.down"},  # query heads share their values
    "every head has its own values": set(LINEARS),
    "qwen2": set(LINEARS),
    "gemma2": set(LINEARS),
    "phi3": {"attention.qkv", "mlp.up", "mlp.down"},
    "olmo2": {"mlp.down"},  # norms stand behind the blocks alone
}


class Narrow:
    """A checkpoint whose vectors are stored in bfloat16."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors = tensors

    def get(self, name: str) -> QTensor:
        tensor = self._tensors.get(name)
        if len(tensor.shape) > 1:
            return tensor
        return QTensor.from_array(name, tensor.to_float32().astype(ml_dtypes.bfloat16))

    def release(self) -> None: ...


def working(folder: Path) -> WorkingLayer:
    checkpoint = open_checkpoint(folder)
    spec, backend = model_spec(checkpoint.config), ReferenceBackend()
    plan = checked_plan(spec, checkpoint)
    table = checkpoint.tensors.get(plan["embedding"][0].name)
    states = HiddenStates.embedded(backend, table, runs(), spec)
    return WorkingLayer(0, spec, plan, backend, Edited(Narrow(checkpoint.tensors)), states)


def outputs(layer: WorkingLayer) -> np.ndarray:
    return np.concatenate(list(layer.block_outputs("mlp.down", 9)))


@pytest.mark.parametrize("family", FAMILIES)
def test_folds_change_no_output(family: str, tmp_path: Path) -> None:
    layer = working(write_model(tmp_path, family))
    before, rng = outputs(layer), np.random.default_rng(4)
    folds = all_folds(layer)
    assert {each.linear for each in folds} == EXPECTED[family]
    for each in folds:
        weights = layer.weights(each.linear)
        fold(layer, each, np.exp(rng.normal(0, 1, weights.shape[1])).astype(np.float32))
        assert np.abs(layer.weights(each.linear) / weights - 1).max() > 0.5  # it was scaled
    error = np.abs(outputs(layer) - before).max()
    assert error < 1e-5 * np.abs(before).max()


def test_gains_stay_what_their_type_can_hold(tmp_path: Path) -> None:
    layer = working(write_model(tmp_path, "gemma2"))
    fold(layer, all_folds(layer)[0], np.linspace(0.3, 3, 64).astype(np.float32))
    gain = layer.weights("attention.norm")
    np.testing.assert_array_equal(gain.astype(ml_dtypes.bfloat16).astype(np.float32), gain)


def test_inputs_are_those_of_the_linear(tmp_path: Path) -> None:
    """Each linear's outputs are its inputs times its weights: zero weights show in the layer's
    output what the others add."""
    layer = working(write_model(tmp_path))
    x = np.concatenate(layer.states.chunks)  # type: ignore[union-attr]
    norm = layer.weights("attention.norm")
    normed = x / np.sqrt(np.square(x).mean(axis=1, keepdims=True) + layer.spec.norm.eps) * norm
    seen = layer.statistics("attention.qkv")
    np.testing.assert_allclose(seen.gram, normed.T @ normed, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(seen.abs_mean, np.abs(normed).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(seen.abs_max, np.abs(normed).max(axis=0), rtol=1e-5)
    assert seen.count == len(x)


def test_each_linear_sees_what_was_changed_before_it(tmp_path: Path) -> None:
    layer = working(write_model(tmp_path))
    before = {name: layer.statistics(name).gram for name in LINEARS}
    layer.replace("attention.out", 0 * layer.weights("attention.out"))
    after = {name: layer.statistics(name).gram for name in LINEARS}
    changed = [not np.array_equal(before[name], after[name]) for name in LINEARS]
    assert changed == [False, False, True, True]


def test_each_linear_sees_what_was_rounded_before_it(tmp_path: Path) -> None:
    layer = working(write_model(tmp_path))
    before = layer.statistics("mlp.up").gram
    store(layer, "attention.out", rtn(layer.weights("attention.out"), scheme(3, 32)))
    assert not np.array_equal(before, layer.statistics("mlp.up").gram)


def test_chunks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = working(write_model(tmp_path))
    whole = outputs(layer)
    monkeypatch.setattr("vivace.optimize.states.CHUNK_TOKENS", 24)
    apart = outputs(working(tmp_path))
    np.testing.assert_allclose(apart, whole, rtol=1e-5, atol=1e-5)


def test_a_layer_far_down_runs_as_if_it_were_alone(tmp_path: Path) -> None:
    layer = replace(working(write_model(tmp_path)), index=1)
    assert outputs(layer).shape == (96, 64)
