from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from vivace.core.errors import CheckpointError
from vivace.core.sampling import SamplingParams
from vivace.formats.checkpoint import end_token_ids, open_checkpoint, sampling_defaults

pytestmark = pytest.mark.tiny


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    save_file({"x": np.ones(4, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    write_json(tmp_path / "config.json", {})
    save_file({"x": np.ones(4, np.float32)}, tmp_path / "one.safetensors")
    save_file({"y": np.zeros((2, 3), np.float32)}, tmp_path / "two.safetensors")
    weight_map = {"x": "one.safetensors", "y": "two.safetensors"}
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": weight_map})
    return tmp_path


def test_a_single_file(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert checkpoint.config == {"model_type": "llama"}
    assert checkpoint.generation_config == {}
    assert list(checkpoint.tensors) == ["x"]
    assert "x" in checkpoint.tensors
    assert checkpoint.tensors.shape("x") == (4,)


def test_shards(sharded: Path) -> None:
    tensors = open_checkpoint(sharded).tensors
    assert {name: tensors.shape(name) for name in tensors} == {"x": (4,), "y": (2, 3)}
    np.testing.assert_array_equal(tensors.get("y").to_float32(), np.zeros((2, 3)))


def test_dtype_is_that_of_most_bytes(folder: Path) -> None:
    arrays = {
        "norm": np.ones(4, np.float32),
        "weight": np.ones(64, ml_dtypes.bfloat16),
        "mask": np.ones(4096, np.uint8),
    }
    save_file(arrays, folder / "model.safetensors")
    assert open_checkpoint(folder).dtype == "bfloat16"


def test_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a folder"):
        open_checkpoint(tmp_path / "absent")


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_checkpoint(folder)


def test_only_pickled_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"only pickled \.bin weights; convert them"):
        open_checkpoint(folder)


def test_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has neither model\.safetensors nor"):
        open_checkpoint(folder)


def test_a_missing_shard(sharded: Path) -> None:
    (sharded / "two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lacks 1 of 2 shards, first two\.safetensors"):
        open_checkpoint(sharded)


def test_a_shard_without_its_tensor(sharded: Path) -> None:
    save_file({"z": np.ones(4, np.float32)}, sharded / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"two\.safetensors lacks tensor y"):
        open_checkpoint(sharded)


@pytest.mark.parametrize("index", [{}, {"weight_map": [1]}, {"weight_map": {"x": 3}}])
def test_a_damaged_index(sharded: Path, index: dict[str, Any]) -> None:
    write_json(sharded / "model.safetensors.index.json", index)
    with pytest.raises(CheckpointError, match="has no weight_map"):
        open_checkpoint(sharded)


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        ({"eos_token_id": [5, 6]}, {"eos_token_id": 7}, (5, 6)),
        ({"eos_token_id": 5}, {}, (5,)),
        ({}, {"eos_token_id": 0}, (0,)),
        ({}, {"eos_token_id": [3, 4]}, (3, 4)),
        ({}, {"text_config": {"eos_token_id": 9}}, (9,)),
        ({"eos_token_id": None}, {"eos_token_id": None}, ()),
    ],
)
def test_end_tokens(
    folder: Path, generation: dict[str, Any], config: dict[str, Any], expected: tuple[int, ...]
) -> None:
    write_json(folder / "generation_config.json", generation)
    write_json(folder / "config.json", config)
    assert end_token_ids(open_checkpoint(folder)) == expected


def test_sampling_defaults(folder: Path) -> None:
    assert sampling_defaults(open_checkpoint(folder)) == SamplingParams()
    generation = {
        "do_sample": True,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": None,
        "max_new_tokens": 99,
        "bos_token_id": 1,
    }
    write_json(folder / "generation_config.json", generation)
    expected = SamplingParams(temperature=0.6, top_k=20, max_tokens=99)
    assert sampling_defaults(open_checkpoint(folder)) == expected


@pytest.mark.parametrize(
    ("suggested", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"temperature": "0.5"}, "temperature"),
        ({"top_k": 2.5}, "top_k"),
        ({"max_new_tokens": 0}, "max_tokens"),
    ],
)
def test_wrong_sampling_defaults_name_the_file(
    folder: Path, suggested: dict[str, Any], param: str
) -> None:
    write_json(folder / "generation_config.json", suggested)
    with pytest.raises(CheckpointError, match=rf"generation_config\.json, {param} must be"):
        sampling_defaults(open_checkpoint(folder))


@pytest.mark.parametrize("given", [[1, None], {"a": 1}, "2", True, 1.0])
@pytest.mark.parametrize("name", ["generation_config.json", "config.json"])
def test_wrong_end_tokens_name_the_file(folder: Path, given: object, name: str) -> None:
    write_json(folder / name, {"eos_token_id": given})
    with pytest.raises(CheckpointError, match=f"eos_token_id in .*{name} must be a token id"):
        end_token_ids(open_checkpoint(folder))
