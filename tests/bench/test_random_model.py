"""Random checkpoints are complete, of the right size, and not written twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from vivace.bench.random_model import PRESETS, tensor_shapes, write_random_model
from vivace.formats.checkpoint import open_checkpoint

pytestmark = pytest.mark.tiny


def parameters(preset: str) -> int:
    return sum(int(np.prod(shape)) for _, shape in tensor_shapes(PRESETS[preset]))


def test_presets_have_the_sizes_they_are_named_after() -> None:
    assert round(parameters("0.35b") / 1e9, 2) == 0.36
    assert round(parameters("1.1b") / 1e9, 1) == 1.1


def test_the_folder_is_a_checkpoint(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_random_model(tmp_path, PRESETS["tiny"]))
    shapes = {name: checkpoint.tensors.shape(name) for name in checkpoint.tensors}
    assert shapes == dict(tensor_shapes(PRESETS["tiny"]))
    assert checkpoint.dtype == "bfloat16"
    values = checkpoint.tensors.get("model.embed_tokens.weight").to_float32()
    assert abs(values.mean()) < 1e-3
    assert values.std() == pytest.approx(0.02, rel=0.05)
    assert (checkpoint.tensors.get("model.norm.weight").to_float32() == 1).all()


def test_other_readers_agree(tmp_path: Path) -> None:
    write_random_model(tmp_path, PRESETS["tiny"])
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == dict(tensor_shapes(PRESETS["tiny"]))


def test_a_complete_folder_is_left_as_it_is(tmp_path: Path) -> None:
    weights = write_random_model(tmp_path, PRESETS["tiny"]) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    write_random_model(tmp_path, PRESETS["tiny"])
    assert weights.stat().st_mtime_ns == before
    first = weights.read_bytes()
    write_random_model(tmp_path, PRESETS["tiny"], seed=1)
    assert weights.read_bytes() != first
