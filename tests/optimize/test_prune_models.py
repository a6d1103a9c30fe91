"""Whole checkpoints with weights at zero: what loads, what is kept, what goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.optimize.models import FAMILIES, runs, write_model
from vivace import LLM
from vivace.backends.reference import ReferenceBackend
from vivace.core.errors import CheckpointError, UsageError
from vivace.formats.checkpoint import Checkpoint, open_checkpoint
from vivace.optimize.prune.methods import METHODS
from vivace.optimize.prune.pattern import pattern_of
from vivace.optimize.prune.run import Job, prune

TOKENS = np.random.default_rng(9).integers(1, 199, 60).tolist()


def job(folder: Path, out: Path, method: str, groups: str | None = None) -> Job:
    return Job("tiny", folder, out, pattern_of(None, groups), method, ReferenceBackend(), runs())


def made(*arguments: object) -> Checkpoint:
    pruning = job(*arguments)  # type: ignore[arg-type]
    prune(pruning).artefact.publish()
    return open_checkpoint(pruning.out)


def logits(folder: Path, backend: str = "reference") -> np.ndarray:
    llm = LLM(str(folder), backend=backend, dtype="float32", notify=lambda _: None)
    return llm.logits(TOKENS)


def distance(folder: Path, out: Path) -> float:
    expected = logits(folder)
    return float(np.square(logits(out) - expected).mean() / np.square(expected).mean())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_keeps_whole_groups(family: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", family, num_hidden_layers=1)
    tensors = made(folder, tmp_path / "out", "sparsegpt", "2:4").tensors
    before = open_checkpoint(folder).tensors
    assert set(tensors) == set(before)
    for name in tensors:
        found, whole = (each.get(name).to_float32() for each in (tensors, before))
        if name.endswith("_proj.weight"):
            assert ((found.reshape(-1, 4) != 0).sum(axis=1) == 2).all()
        else:
            np.testing.assert_array_equal(found, whole)
    assert distance(folder, tmp_path / "out") < 1


@pytest.mark.parametrize("method", METHODS)
def test_half_of_the_weights_are_gone(method: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    made(folder, tmp_path / "out", method)
    about = json.loads((tmp_path / "out" / "vivace.json").read_text())
    assert about["sparsity"] == 0.5
    assert about["recipe"]["sparsity"] == "0.5"
    assert (about["recipe"]["calibration"] is None) == (method == "magnitude")


def test_inputs_make_a_difference(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    distances = {}
    for method in METHODS:
        made(folder, tmp_path / method, method)
        distances[method] = distance(folder, tmp_path / method)
    assert distances["sparsegpt"] < distances["magnitude"]


class StoppedError(Exception):
    pass


def stop_after_the_first(done: int, total: int) -> None:
    raise StoppedError


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made(folder, whole, "sparsegpt")
    with pytest.raises(StoppedError):
        prune(job(folder, parts, "sparsegpt"), stop_after_the_first)
    first = tmp_path / "parts.partial" / "model-00001-of-00003.safetensors"
    written = first.stat().st_mtime_ns
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        open_checkpoint(first.parent)
    with pytest.raises(UsageError, match="is of a run with another"):
        prune(job(folder, parts, "wanda"))
    made(folder, parts, "sparsegpt")
    assert (parts / first.name).stat().st_mtime_ns == written
    for file in whole.glob("*.safetensors"):
        assert (parts / file.name).read_bytes() == file.read_bytes()


def test_the_second_layer_sees_the_first_one_pruned(tmp_path: Path) -> None:
    """By itself it would be pruned otherwise."""
    folder = write_model(tmp_path / "model")
    name = "model.layers.1.mlp.down_proj.weight"
    after_pruned = made(folder, tmp_path / "a", "wanda").tensors.get(name).to_float32()
    pruned = open_checkpoint(tmp_path / "a")
    whole = {n: pruned.tensors.get(n) for n in pruned.tensors}
    assert np.count_nonzero(whole["model.layers.0.mlp.down_proj.weight"].to_float32())
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for other in tensors:
        if ".layers.0." in other:
            tensors[other] = whole[other].to_float32()
    save_file(tensors, folder / "model.safetensors")
    again = made(folder, tmp_path / "b", "wanda").tensors.get(name).to_float32()
    np.testing.assert_array_equal(again, after_pruned)


def test_what_cannot_be_pruned(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    with pytest.raises(UsageError, match="no method 'best'"):
        prune(job(folder, tmp_path / "out", "best"))
    with pytest.raises(UsageError, match="which 2:3 does not divide"):
        prune(job(folder, tmp_path / "out", "wanda", "2:3"))
    experts = write_model(tmp_path / "moe", model_type="mixtral", num_local_experts=4)
    with pytest.raises(UsageError, match="Mixtures of experts cannot be pruned yet"):
        prune(job(experts, tmp_path / "out", "wanda"))
    assert not (tmp_path / "out.partial").exists()


def test_native_code_reads_what_was_made(tmp_path: Path) -> None:
    pytest.importorskip("vivace.backends.cpu._native")
    folder = write_model(tmp_path / "model")
    made(folder, tmp_path / "out", "wanda", "2:4")
    expected = logits(tmp_path / "out")
    np.testing.assert_allclose(logits(tmp_path / "out", "cpu"), expected, rtol=1e-3, atol=1e-3)
