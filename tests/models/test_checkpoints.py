"""Checkpoints as the hub has them: shards, half precision, other prefixes, spare tensors."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from decoder_runs import logits  # noqa: E402
from family_cases import CASES, LENGTH, Case  # noqa: E402
from oracle import Oracle, save_checkpoint  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from vivace.backends.reference import ReferenceBackend  # noqa: E402
from vivace.formats.checkpoint import open_checkpoint  # noqa: E402
from vivace.models.loader import load_decoder, model_spec, tensor_shapes  # noqa: E402

pytestmark = pytest.mark.oracle

TOKENS = random.Random(5).choices(range(3, 67), k=LENGTH)
BY_NAME = {case.name: case for case in CASES}


def assert_as_transformers(case: Case, folder: Path, expected: np.ndarray) -> None:
    backend = ReferenceBackend("float32")
    checkpoint = open_checkpoint(folder)
    decoder = load_decoder(checkpoint, backend, model_spec(checkpoint.config, LENGTH))
    found = logits(decoder, backend, TOKENS)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def rename(folder: Path, new_name: Callable[[str], str]) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file({new_name(name): tensor for name, tensor in tensors.items()}, path)


@pytest.mark.parametrize(("dtype", "name"), [("float16", "float16"), ("bfloat16", "bfloat16")])
def test_half_precision_weights(dtype: str, name: str, tmp_path: Path) -> None:
    case = BY_NAME["llama-biases"]
    save_checkpoint(case, tmp_path, getattr(torch, dtype))
    assert open_checkpoint(tmp_path).dtype == name
    assert_as_transformers(case, tmp_path, Oracle(case, tmp_path).logits(TOKENS))


def test_shards(tmp_path: Path) -> None:
    case = BY_NAME["qwen3_moe-plain"]
    save_checkpoint(case, tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert_as_transformers(case, tmp_path, Oracle(case, tmp_path).logits(TOKENS))


def test_gpt2_without_prefix(tmp_path: Path) -> None:
    case = BY_NAME["gpt2-plain"]
    save_checkpoint(case, tmp_path)
    expected = Oracle(case, tmp_path).logits(TOKENS)
    rename(tmp_path, lambda name: name.removeprefix("transformer."))
    assert_as_transformers(case, tmp_path, expected)


def test_gemma3_with_the_new_prefix(tmp_path: Path) -> None:
    case = BY_NAME["gemma3-wrapped"]
    save_checkpoint(case, tmp_path)
    expected = Oracle(case, tmp_path).logits(TOKENS)
    rename(tmp_path, lambda name: name.replace("language_model.model.", "model.language_model."))
    assert_as_transformers(case, tmp_path, expected)


def test_tied_head_that_is_stored_too(tmp_path: Path) -> None:
    case = BY_NAME["llama-tied"]
    save_checkpoint(case, tmp_path)
    expected = Oracle(case, tmp_path).logits(TOKENS)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {"lm_head.weight": torch.zeros(67, 36)}, path)
    assert_as_transformers(case, tmp_path, expected)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_tensor_shapes_are_those_that_transformers_stores(case: Case, tmp_path: Path) -> None:
    save_checkpoint(case, tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    stored = {name: checkpoint.tensors.shape(name) for name in checkpoint.tensors}
    text = {
        name: shape
        for name, shape in stored.items()
        if not name.startswith(("vision_tower", "multi_modal_projector"))
    }
    assert tensor_shapes(model_spec(checkpoint.config)) == text
