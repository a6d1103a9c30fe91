"""Whole checkpoints, quantized by every method: what loads, what is kept, what goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.optimize.models import FAMILIES, job, runs, write_model
from vivace import LLM
from vivace.core.errors import CheckpointError, UsageError
from vivace.formats.checkpoint import Checkpoint, open_checkpoint
from vivace.formats.schemes import int4
from vivace.optimize.quantize.methods import METHODS
from vivace.optimize.quantize.run import quantize
from vivace.optimize.quantize.schemes import STORED

TOKENS = np.random.default_rng(9).integers(1, 199, 60).tolist()
QKV = "model.layers.0.self_attn.q_proj.weight"


def made(folder: Path, out: Path, scheme: str, method: str) -> Checkpoint:
    quantize(job(folder, out, scheme, method)).artefact.publish()
    return open_checkpoint(out)


def logits(folder: Path) -> np.ndarray:
    llm = LLM(str(folder), backend="reference", dtype="float32", notify=lambda _: None)
    return llm.logits(TOKENS)


def distance(folder: Path, out: Path) -> float:
    expected = logits(folder)
    return float(np.square(logits(out) - expected).mean() / np.square(expected).mean())


@pytest.fixture(autouse=True)
def _few_points(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches try few scales: quicker."""
    monkeypatch.setattr("vivace.optimize.quantize.awq.POINTS", 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_by_the_method_that_changes_most(family: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", family, num_hidden_layers=1)
    made(folder, tmp_path / "out", "int4-g32-a16", "awq-gptq")
    assert distance(folder, tmp_path / "out") < 0.1


@pytest.mark.parametrize(
    ("method", "scheme"),
    [(method, "int4-g32-zp") for method in METHODS if method != "signround"]
    + [("gptq", "int8"), ("gptq", "int3-g64"), ("rtn", "int2-g32-zp"), ("hqq", "int2-g32")],
)
def test_every_method_and_kind_of_scheme(method: str, scheme: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", num_hidden_layers=1)
    made(folder, tmp_path / "out", scheme, method)
    limits = {8: 0.002, 4: 0.03, 3: 0.15, 2: 0.6}
    assert distance(folder, tmp_path / "out") < limits[STORED[scheme].bits]


def test_inputs_make_a_difference(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    distances = {}
    for method in ("rtn", "gptq"):
        made(folder, tmp_path / method, "int4-g32-a16", method)
        distances[method] = distance(folder, tmp_path / method)
    assert distances["gptq"] < 0.9 * distances["rtn"]


def test_what_is_loaded_is_what_was_made(tmp_path: Path) -> None:
    checkpoint = made(write_model(tmp_path / "model"), tmp_path / "out", "int4-g32", "rtn")
    assert checkpoint.tensors.get(QKV).scheme == int4(32)
    stored = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert (stored["format"], stored["ignore"]) == ("pack-quantized", ["lm_head"])
    about = json.loads((tmp_path / "out" / "vivace.json").read_text())
    assert about["activation_bits"] == 8
    assert about["recipe"]["method"] == "rtn"
    assert not (tmp_path / "out.partial").exists()
    kept = checkpoint.tensors.get("model.embed_tokens.weight")
    before = open_checkpoint(tmp_path / "model").tensors.get("model.embed_tokens.weight")
    np.testing.assert_array_equal(kept.to_float32(), before.to_float32())


def test_exceptions_have_their_own_scheme(tmp_path: Path) -> None:
    folder, scheme = write_model(tmp_path / "model"), "int4-g32,layers.1.*=int8,*.down=none"
    tensors = made(folder, tmp_path / "out", scheme, "gptq").tensors
    kinds = {name: tensors.get(name).scheme.name for name in tensors if "_proj" in name}
    assert kinds[QKV] == "int4-g32"
    assert kinds[QKV.replace("0", "1")] == "int8"
    assert {kind for name, kind in kinds.items() if "down" in name} == {"float32"}
    assert distance(folder, tmp_path / "out") < 0.05


class StoppedError(Exception):
    pass


def stop_after_the_first(done: int, total: int) -> None:
    raise StoppedError


@pytest.mark.parametrize("method", ["gptq", "awq", "rtn"])
def test_an_interrupted_run_goes_on(method: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made(folder, whole, "int4-g32", method)
    with pytest.raises(StoppedError):
        quantize(job(folder, parts, "int4-g32", method), stop_after_the_first)
    first = tmp_path / "parts.partial" / "model-00001-of-00003.safetensors"
    written = first.stat().st_mtime_ns
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        open_checkpoint(first.parent)
    other = "hqq" if method == "rtn" else "rtn"
    with pytest.raises(UsageError, match="another model, scheme or method"):
        quantize(job(folder, parts, "int4-g32", other))
    made(folder, parts, "int4-g32", method)
    assert (parts / first.name).stat().st_mtime_ns == written
    for file in whole.glob("*.safetensors"):
        assert (parts / file.name).read_bytes() == file.read_bytes()


def test_nothing_is_written_over(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    made(folder, tmp_path / "out", "int8", "rtn")
    with pytest.raises(UsageError, match="is there already"):
        quantize(job(folder, tmp_path / "out", "int8", "rtn"))


@pytest.mark.parametrize(
    ("scheme", "method", "message"),
    [
        ("int5", "rtn", "no scheme 'int5'"),
        ("int8", "best", "no method 'best'"),
        ("int4-g128", "rtn", r"layers\.0\.attention\.qkv has 64 inputs, no multiple of 128"),
        ("int8,head=int8", "rtn", "head and the embedding are kept"),
        ("int4-g32,layers.1.*=int4-g32-a16", "rtn", "the same activations"),
        ("int8,layers.9.*=none", "rtn", r"'layers\.9\.\*' names no weight"),
    ],
)
def test_what_cannot_be_is_refused_first(
    scheme: str, method: str, message: str, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "model")
    with pytest.raises(UsageError, match=message):
        quantize(job(folder, tmp_path / "out", scheme, method))
    assert not (tmp_path / "out.partial").exists()


def test_models_that_cannot_be_quantized(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    made(folder, tmp_path / "int8", "int8", "rtn")
    with pytest.raises(UsageError, match=r"quantized already \(int8\)"):
        quantize(job(tmp_path / "int8", tmp_path / "out", "int8", "rtn"))
    experts = write_model(tmp_path / "moe", model_type="mixtral", num_local_experts=4)
    with pytest.raises(UsageError, match="Mixtures of experts"):
        quantize(job(experts, tmp_path / "out", "int8", "rtn"))


def test_runs_longer_than_the_model(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", max_position_embeddings=16)
    assert len(runs()[0]) > 16
    with pytest.raises(UsageError, match="longer than the model's 16"):
        quantize(job(folder, tmp_path / "out", "int8", "gptq"))


def test_native_code_reads_what_was_made(tmp_path: Path) -> None:
    pytest.importorskip("vivace.backends.cpu._native")
    folder = write_model(tmp_path / "model")
    for scheme in ("int8", "int4-g32-zp", "int4-g64-a16", "int3-g32"):
        made(folder, tmp_path / scheme, scheme, "rtn")
        llm = LLM(str(tmp_path / scheme), backend="cpu", dtype="float32", notify=lambda _: None)
        expected = logits(tmp_path / scheme)
        error = np.square(llm.logits(TOKENS) - expected).mean() / np.square(expected).mean()
        assert error < 1e-4


def test_calibrating_on_native_code_gives_nearly_the_same(tmp_path: Path) -> None:
    pytest.importorskip("vivace.backends.cpu._native")
    from vivace.backends.cpu import CpuBackend

    folder = write_model(tmp_path / "model", num_hidden_layers=1)
    made(folder, tmp_path / "reference", "int4-g32-a16", "gptq")
    native = replace(
        job(folder, tmp_path / "native", "int4-g32-a16", "gptq"), backend=CpuBackend("float32", 2)
    )
    quantize(native).artefact.publish()
    codes = [
        open_checkpoint(tmp_path / name).tensors.get(QKV).integers()[0]
        for name in ("native", "reference")
    ]
    assert (codes[0] == codes[1]).mean() > 0.99
