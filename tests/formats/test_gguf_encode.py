"""Blocks that are written say what was meant; a file in the making never loads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vivace.core.errors import CheckpointError, UsageError
from vivace.formats.gguf.blocks import TYPES, bit_planes, dequantize
from vivace.formats.gguf.encode import GROUPED, BlockGrid, GroupedType, encode, pack_planes
from vivace.formats.gguf.header import read_header
from vivace.formats.gguf.writer import EVIDENCE_KEY, NewTensor, PartialFile
from vivace.formats.mapped import MappedFile

pytestmark = pytest.mark.tiny

RNG = np.random.default_rng(5)
METADATA = {
    "general.architecture": "llama",
    "a.truth": True,
    "a.count": 7,
    "a.number": 0.5,
    "a.list": ["x", "ünï", ""],
    "a.kinds": np.asarray([3, 1, -1], np.int32),
    "a.scores": np.asarray([0.5, -2], np.float32),
}


def random_grid(kind: GroupedType, rows: int, blocks: int) -> tuple[BlockGrid, np.ndarray]:
    """Every code and factor that there is, and steps of both signs."""
    groups = blocks * kind.block // kind.group
    steps, lows = (
        RNG.normal(0, 0.1, (rows, blocks)).astype(np.float16).astype(np.float32) for _ in range(2)
    )
    lows = lows if kind.has_lows else np.zeros_like(lows)
    least, greatest = kind.factors or (1, 1)
    factors = RNG.integers(least, greatest + 1, (2, rows, groups)).astype(np.int16)
    codes = RNG.integers(kind.codes[0], kind.codes[1] + 1, (rows, blocks * kind.block))
    return BlockGrid(kind, steps, lows, *factors), codes.astype(np.int16)


@pytest.mark.parametrize("name", GROUPED)
def test_reading_gives_step_times_code_less_low(name: str) -> None:
    kind = GROUPED[name]
    grid, codes = random_grid(kind, 5, 3)
    steps, lows = (np.repeat(part, kind.group, axis=1) for part in grid.of_groups())
    rows = encode(grid, codes)
    assert rows.shape == (5, kind.tensor_type.row_bytes(codes.shape[1]))
    np.testing.assert_array_equal(dequantize(rows, kind.tensor_type), steps * codes - lows)


@pytest.mark.parametrize(("width", "bits"), [(16, 4), (32, 4), (64, 4), (32, 2), (32, 1), (1, 1)])
def test_planes_go_back(width: int, bits: int) -> None:
    packed = RNG.integers(0, 256, (7, 2 * width), np.uint8)
    np.testing.assert_array_equal(pack_planes(bit_planes(packed, width, bits), width, bits), packed)


def new_file(out: Path, **more: object) -> tuple[PartialFile, dict[str, np.ndarray]]:
    f32, q8 = TYPES[0], GROUPED["Q8_0"].tensor_type
    tensors = [NewTensor("x", (3,), f32), NewTensor("y", (2, 32), q8), NewTensor("z", (5,), f32)]
    content = {t.name: RNG.integers(0, 256, t.nbytes, np.uint8) for t in tensors}
    return PartialFile(out, {**METADATA, **more}, tensors), content


def fill(file: PartialFile, content: dict[str, np.ndarray]) -> None:
    for name, rows in content.items():
        file.write(name, rows)


def test_a_file_says_what_it_was_told(tmp_path: Path) -> None:
    file, content = new_file(tmp_path / "x.gguf")
    assert file.open(1) == 0
    fill(file, content)
    file.complete()
    file.describe({"kl": 0.25})
    file.publish()
    header = read_header(MappedFile(tmp_path / "x.gguf"))
    for key, value in METADATA.items():
        np.testing.assert_array_equal(header.metadata[key], value)
    assert header.metadata[EVIDENCE_KEY].strip() == '{"kl": 0.25}'
    raw = (tmp_path / "x.gguf").read_bytes()
    for name, rows in content.items():
        info = header.tensors[name]
        assert info.start % 32 == 0
        assert raw[info.start : info.start + rows.nbytes] == rows.tobytes()
    assert header.tensors["y"].shape == (2, 32)
    assert list(tmp_path.iterdir()) == [tmp_path / "x.gguf"]


def test_parts_of_tensors_and_what_was_written(tmp_path: Path) -> None:
    file, content = new_file(tmp_path / "x.gguf")
    file.open(1)
    file.write("y", content["y"][:34])
    file.write("y", content["y"][34:], 34)
    np.testing.assert_array_equal(file.read("y"), content["y"])
    with pytest.raises(ValueError, match="y ends before byte 69"):
        file.write("y", content["y"], 1)


def test_half_a_file_does_not_load(tmp_path: Path) -> None:
    file, content = new_file(tmp_path / "x.gguf")
    file.open(3)
    for parts in (0, 2):
        with pytest.raises(CheckpointError, match="is not a GGUF file"):
            read_header(MappedFile(file.path))
        fill(file, content)
        file.mark(parts)
    file.mark(2)
    assert new_file(tmp_path / "x.gguf")[0].open(3) == 2
    file.complete()
    assert new_file(tmp_path / "x.gguf")[0].open(3) == 3
    read_header(MappedFile(file.path))


def test_places_that_are_taken(tmp_path: Path) -> None:
    new_file(tmp_path / "x.gguf")[0].open(1)
    with pytest.raises(UsageError, match="of a run with another model, type or method"):
        new_file(tmp_path / "x.gguf", more=1)[0].open(1)
    (tmp_path / "x.gguf").touch()
    with pytest.raises(UsageError, match="is there already"):
        new_file(tmp_path / "x.gguf")[0].open(1)


def test_evidence_without_room_is_left_out(tmp_path: Path) -> None:
    file, _ = new_file(tmp_path / "x.gguf")
    file.open(1)
    file.complete()
    file.describe({"text": "x" * 5000})
    assert not read_header(MappedFile(file.path)).metadata[EVIDENCE_KEY].strip()
