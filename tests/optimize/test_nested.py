"""8 and 4 bits in one folder: the model in 4 bits is the one that is made of them alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.optimize.models import job, write_model
from vivace import LLM
from vivace.core.errors import CheckpointError, UsageError
from vivace.formats.checkpoint import Checkpoint, open_checkpoint
from vivace.formats.schemes import int4, nested
from vivace.optimize.evidence import View, size_of
from vivace.optimize.quantize.run import quantize
from vivace.optimize.quantize.sensitivity import mixed_scheme

TOKENS = np.random.default_rng(9).integers(1, 199, 60).tolist()
QKV = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("nested") / "model")


@pytest.fixture(scope="module")
def both(model: Path) -> Path:
    """In 8 and 4 bits."""
    return made(model, "nested-g32-zp", "gptq")


def made(model: Path, scheme: str, method: str) -> Path:
    out = model.with_name(f"{scheme}-{method}")
    quantize(job(model, out, scheme, method)).artefact.publish()
    return out


def logits(folder: Path, backend: str = "reference", **options: int) -> np.ndarray:
    llm = LLM(str(folder), backend=backend, dtype="float32", notify=lambda _: None, **options)
    return llm.logits(TOKENS)


def weights(checkpoint: Checkpoint) -> np.ndarray:
    return checkpoint.tensors.get(QKV).to_float32()


def test_the_model_in_4_bits_is_the_one_that_is_made_alone(model: Path, both: Path) -> None:
    alone = made(model, "int4-g32-zp", "gptq")
    shards = sorted(alone.glob("model-*.safetensors"))
    assert len(shards) == 3
    for shard in shards:
        assert (both / shard.name).read_bytes() == shard.read_bytes()
    configs = [json.loads((folder / "config.json").read_text()) for folder in (both, alone)]
    assert configs[0] == configs[1]
    assert np.array_equal(logits(both, weight_bits=4), logits(alone))


def test_the_rest_is_what_8_bits_lack_less(model: Path, both: Path) -> None:
    expected = weights(open_checkpoint(model))
    errors = {
        bits: np.abs(weights(open_checkpoint(both, bits)) - expected).max() for bits in (4, 8)
    }
    assert errors[8] < errors[4] / 4
    distances = {
        bits: np.square(logits(both, weight_bits=bits) - logits(model)).mean() for bits in (4, 8)
    }
    assert distances[8] < distances[4] / 20


def test_left_out_it_is_the_finest(both: Path) -> None:
    checkpoint = open_checkpoint(both)
    assert checkpoint.tensors.get(QKV).scheme == nested(int4(32, True))
    assert open_checkpoint(both, 4).tensors.get(QKV).scheme == int4(32, True)
    assert np.array_equal(weights(checkpoint), weights(open_checkpoint(both, 8)))


def test_native_code_adds_both_planes(both: Path) -> None:
    pytest.importorskip("vivace.backends.cpu._native")
    for bits in (4, 8):
        expected = logits(both, weight_bits=bits)
        found = logits(both, "cpu", weight_bits=bits)
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_bytes_are_those_of_two_planes(model: Path, both: Path) -> None:
    four, eight = (size_of(model, View(both, bits))["bits_per_quantized_weight"] for bits in (4, 8))
    assert four == pytest.approx(4 + 20 / 32, abs=0.1)  # and the shapes of small matrices
    assert eight == pytest.approx(2 * four, rel=0.02)


def test_an_interrupted_run_goes_on(model: Path, both: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError

    again = job(model, model.with_name("again"), "nested-g32-zp", "gptq")
    with pytest.raises(InterruptedError):
        quantize(again, stop)
    assert len(list(again.out.with_name("again.partial").glob("finer-*"))) == 1
    quantize(again).artefact.publish()
    for file in sorted(both.glob("*.safetensors")):
        assert (again.out / file.name).read_bytes() == file.read_bytes()


def test_what_holds_one_precision_has_no_other(model: Path) -> None:
    with pytest.raises(UsageError, match="one precision only; leave weight_bits out"):
        open_checkpoint(model, 4)


def test_a_finer_part_of_nothing_is_refused(model: Path) -> None:
    out = made(model, "nested-g64", "rtn")
    index = out / "model.safetensors.index.json"
    kept = json.loads(index.read_text())["weight_map"]
    kept = {name: file for name, file in kept.items() if not name.startswith(QKV)}
    index.write_text(json.dumps({"weight_map": kept}))
    with pytest.raises(CheckpointError, match=r"q_proj\.weight that fits no matrix of 4 bits"):
        open_checkpoint(out)


def test_mixes_take_single_precisions(model: Path) -> None:
    with pytest.raises(UsageError, match="leave nested schemes out of --mix"):
        mixed_scheme(
            open_checkpoint(model), job(model, model, "int8", "rtn"), 5, ["int8", "nested-g32"]
        )


def test_linears_that_are_rounded_together_are_not_nested(model: Path) -> None:
    out = model.with_name("together")
    with pytest.raises(UsageError, match="signround makes no nested schemes"):
        quantize(job(model, out, "nested-g32", "signround"))
    assert not out.with_name("together.partial").exists()
