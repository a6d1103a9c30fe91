from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from vivace.core.errors import CheckpointError
from vivace.formats.safetensors import SafetensorsFile

pytestmark = pytest.mark.tiny


def write(path: Path, header: dict[str, Any] | bytes, data: bytes, pad: bool = True) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], start: int, stop: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def float_file(path: Path) -> Path:
    values = np.arange(6, dtype=np.float32)
    half = values.astype(np.float16)
    brain = values.astype(ml_dtypes.bfloat16)
    header = {
        "__metadata__": {"format": "pt"},
        "a": entry("F32", [2, 3], 0, 24),
        "b": entry("F16", [6], 24, 36),
        "c": entry("BF16", [3, 2], 36, 48),
        "counts": entry("I64", [1], 48, 56),
        "empty": entry("F32", [0, 4], 56, 56),
        "scalar": entry("F32", [], 56, 60),
    }
    data = values.tobytes() + half.tobytes() + brain.tobytes() + bytes(8) + values[1:2].tobytes()
    return write(path, header, data)


def test_tensors_are_views_of_their_values(tmp_path: Path) -> None:
    file = SafetensorsFile(float_file(tmp_path / "x.safetensors"))
    assert list(file) == ["a", "b", "c", "counts", "empty", "scalar"]
    for name, shape in {"a": (2, 3), "b": (6,), "c": (3, 2)}.items():
        tensor = file.tensor(name)
        assert (tensor.name, tensor.shape) == (name, shape)
        assert not tensor.buffers["weight"].flags.owndata
        np.testing.assert_array_equal(tensor.to_float32().ravel(), np.arange(6))
    assert file.tensor("empty").shape == (0, 4)
    assert float(file.tensor("scalar").to_float32()) == 1.0


def test_views_stay_valid_after_release(tmp_path: Path) -> None:
    file = SafetensorsFile(float_file(tmp_path / "x.safetensors"))
    tensor = file.tensor("a")
    assert tensor.to_float32().sum() == 15
    file.release()
    assert tensor.to_float32().sum() == 15


def test_agrees_with_the_safetensors_library(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    arrays = {
        "x": np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32),
        "y": np.arange(9, dtype=np.float16),
    }
    save_file(arrays, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(file.tensor(name).buffers["weight"], array)


def test_an_unaligned_tensor_is_still_read_aligned(tmp_path: Path) -> None:
    values = np.arange(3, dtype=np.float32)
    header = json.dumps({"odd": entry("F32", [3], 1, 13)}).encode()
    header += b" " * (-len(header) % 8)
    path = write(tmp_path / "x.safetensors", header, b"\0" + values.tobytes())
    array = SafetensorsFile(path).tensor("odd").buffers["weight"]
    assert array.flags.aligned
    np.testing.assert_array_equal(array, values)


def test_an_integer_tensor_is_listed_but_not_given(tmp_path: Path) -> None:
    file = SafetensorsFile(float_file(tmp_path / "x.safetensors"))
    assert file.entry("counts").shape == (1,)
    with pytest.raises(CheckpointError, match=r"counts.*has dtype I64; only F32, F16, BF16"):
        file.tensor("counts")


@pytest.mark.parametrize("keep", [0, 7, 8, 40, -1])
def test_a_truncated_file(tmp_path: Path, keep: int) -> None:
    path = float_file(tmp_path / "x.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"truncated|not a safetensors file"):
        SafetensorsFile(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1, 2]",
        b'{"a": {"dtype": "F32"}}',
        b'{"a": 5}',
        b"\xff\xfe",
        {"a": entry("F32", [3], 0, 8)},
        {"a": entry("F32", [-1], 0, 4)},
        {"a": entry("F32", [1], 8, 4)},
        {"a": entry("F32", [1], -4, 0)},
    ],
)
def test_a_damaged_header(tmp_path: Path, header: dict[str, Any] | bytes) -> None:
    path = write(tmp_path / "x.safetensors", header, bytes(8))
    with pytest.raises(CheckpointError, match=r"header of .* is damaged"):
        SafetensorsFile(path)


def test_an_absurd_header_length_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        SafetensorsFile(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        SafetensorsFile(tmp_path / "x.safetensors")
