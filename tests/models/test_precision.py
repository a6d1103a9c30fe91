"""What each weight is kept in, where a checkpoint and a policy both have a say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.engine.tiny import write_tiny_llama
from tests.formats.gguf_files import LLAMA, Tensor, llama_tensors, quantized, write_gguf
from tests.optimize.models import write_model
from vivace import LLM
from vivace.core.errors import UsageError
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.policy import PrecisionPolicy
from vivace.formats.qtensor import INT8
from vivace.formats.schemes import int4
from vivace.models.loader import model_spec
from vivace.models.precision import Precision, precision_of
from vivace.optimize.quantize.rtn import rtn
from vivace.optimize.quantize.stored import as_arrays, group_config

pytestmark = pytest.mark.tiny

STORED = int4(32, activation_bits=None)
LAYERS = [f"layers.0.{role}" for role in ("attention.qkv", "attention.out", "mlp.up", "mlp.down")]


def precision(folder: Path, policy: str | None, **others: Tensor) -> Precision:
    path = write_gguf(folder / "x.gguf", LLAMA, llama_tensors(**others))
    checkpoint = open_checkpoint(path)
    return precision_of(model_spec(checkpoint.config), checkpoint, PrecisionPolicy.parse(policy))


def test_what_is_stored_as_integers_stays(tmp_path: Path) -> None:
    found = precision(tmp_path, None)
    assert found.stored == found.schemes == dict.fromkeys(LAYERS, STORED)
    assert found.dequantized == ()
    assert found.describe(None) == "int4-g32-a16"


def test_parts_of_one_matrix_become_floats_together(tmp_path: Path) -> None:
    found = precision(tmp_path, None, attn_v=quantized("Q8_0", 16, 32))
    assert list(found.stored) == LAYERS[1:]
    assert found.dequantized == ("Q4_0", "Q8_0")


def test_what_is_rounded_on_request_is_not_said_to_be_kept_as_floats(tmp_path: Path) -> None:
    values = quantized("Q8_0", 16, 32)
    found = precision(tmp_path, "layers.*.qkv=int8", attn_v=values)
    assert (found.rounded, found.dequantized) == ({LAYERS[0]: INT8}, ())
    assert list(found.stored) == LAYERS[1:]


def test_floats_beside_integers_are_rounded(tmp_path: Path) -> None:
    found = precision(tmp_path, "head=int8")
    assert (found.rounded, found.dequantized) == ({"head": INT8}, ())
    assert found.schemes == dict.fromkeys(LAYERS, STORED) | {"head": INT8}
    assert PrecisionPolicy.parse(found.describe("head=int8")).scheme_of(LAYERS[0]) == STORED


def test_what_is_stored_already_can_be_asked_for(tmp_path: Path) -> None:
    found = precision(tmp_path, STORED.name)
    assert (set(found.stored), found.rounded) == (set(LAYERS), {"head": INT8})
    assert found.describe(STORED.name) == STORED.name


def test_integers_are_not_rounded_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"qkv is stored in int4-g32-a16 and is not rounded again"):
        precision(tmp_path, "int8")


def test_a_checkpoint_of_floats(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_tiny_llama(tmp_path))
    found = precision_of(model_spec(checkpoint.config), checkpoint)
    assert found == Precision({}, {}, ())
    assert found.describe(None) is None
    assert found.describe("int8") == "int8"


def test_parts_in_different_integers_become_floats_together(tmp_path: Path) -> None:
    """As where others have quantized queries otherwise than values."""
    folder = write_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    tensors, groups = load_file(folder / "model.safetensors"), {}
    for bits, part in ((4, "q"), (8, "k"), (4, "v")):
        name = f"model.layers.0.self_attn.{part}_proj"
        weights = tensors.pop(f"{name}.weight")
        scheme = int4(32) if bits == 4 else INT8
        tensors |= as_arrays(f"{name}.weight", rtn(weights, scheme))
        groups[part] = {"targets": [name], **group_config(scheme)}
    quantization = {"quant_method": "compressed-tensors", "config_groups": groups}
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))
    save_file(tensors, folder / "model.safetensors")
    checkpoint = open_checkpoint(folder)
    found = precision_of(model_spec(checkpoint.config), checkpoint)
    assert (found.stored, found.dequantized) == ({}, ("int4", "int8"))
    llm = LLM(str(folder), backend="reference", dtype="float32", notify=lambda _: None)
    assert np.isfinite(llm.logits([1, 2, 3])).all()
