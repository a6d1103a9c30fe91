"""Metadata of every kind, where tensors stand, and what is said of damaged files."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.formats.gguf_files import floats, gguf_bytes, string, value, write_gguf
from vivace.core.errors import CheckpointError
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.gguf.header import read_header
from vivace.formats.mapped import MappedFile

pytestmark = pytest.mark.tiny

METADATA = {
    "general.architecture": "llama",
    "a.flag": True,
    "a.count": 7,
    "a.share": 0.25,
    "a.text": "größer",
    "a.words": ["x", "", "▁yz"],
    "a.numbers": [3, 1, 2],
    "a.shares": [0.5, -1.0],
}
TENSORS = {
    "token_embd.weight": floats(np.arange(6).reshape(2, 3)),
    "output_norm.weight": floats(np.arange(3)),
}


def header_of(path: Path, content: bytes) -> object:
    path.write_bytes(content)
    return read_header(MappedFile(path))


def test_metadata_and_tensors(tmp_path: Path) -> None:
    header = read_header(MappedFile(write_gguf(tmp_path / "x.gguf", METADATA, TENSORS)))
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in header.metadata.items()}
    assert plain == METADATA
    assert {name: info.shape for name, info in header.tensors.items()} == {
        "token_embd.weight": (2, 3),
        "output_norm.weight": (3,),
    }
    starts = [info.start for info in header.tensors.values()]
    assert starts[0] % 32 == 0
    assert starts[1] - starts[0] == 32


def test_an_alignment_of_the_files_own(tmp_path: Path) -> None:
    keys = string("general.alignment") + value(8)
    info = string("x") + struct.pack("<IQIQ", 1, 2, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + keys + info
    content = header + bytes(-len(header) % 8) + bytes(8)
    (tmp_path / "x.gguf").write_bytes(content)
    found = read_header(MappedFile(tmp_path / "x.gguf"))
    assert found.tensors["x"].start == len(content) - 8


def test_the_writer_of_the_tests_writes_what_the_oracle_reads(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(write_gguf(tmp_path / "x.gguf", METADATA, TENSORS))
    assert {tensor.name: tuple(tensor.shape)[::-1] for tensor in reader.tensors} == {
        "token_embd.weight": (2, 3),
        "output_norm.weight": (3,),
    }
    assert reader.get_field("a.text").contents() == "größer"
    np.testing.assert_array_equal(reader.tensors[0].data, np.arange(6).reshape(2, 3))


WHOLE = gguf_bytes(METADATA, TENSORS)


@pytest.mark.parametrize("keep", [0, 3, 4, 10, 24, 40, 100, 200, len(WHOLE) // 2])
def test_a_header_that_ends_too_early(tmp_path: Path, keep: int) -> None:
    with pytest.raises(CheckpointError, match=r"x\.gguf is damaged.*download"):
        header_of(tmp_path / "x.gguf", WHOLE[:keep])


def test_a_tensor_that_ends_too_early(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(WHOLE[:-25])
    with pytest.raises(CheckpointError, match=r"is truncated: it has \d+ bytes of \d+"):
        open_checkpoint(tmp_path / "x.gguf")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"GGML" + WHOLE[4:], "is not a GGUF file"),
        (WHOLE[:4] + struct.pack("<I", 1) + WHOLE[8:], "of version 1, which is not supported"),
        (WHOLE[:4] + struct.pack(">I", 3) + WHOLE[8:], "of version 50331648"),
        (WHOLE[:8] + struct.pack("<Q", 2**60) + WHOLE[16:], "is damaged"),
        (WHOLE[:16] + struct.pack("<Q", 2**60) + WHOLE[24:], "is damaged"),
        (WHOLE[:24] + struct.pack("<Q", 2**63) + WHOLE[32:], "is damaged"),
        (gguf_bytes({"general.alignment": 0}, {}), "alignment is 0"),
        (gguf_bytes({"general.alignment": "x"}, {}), "alignment is 'x'"),
        (gguf_bytes({}, {"x": (0, (1,) * 5, b"")}), "5 dimensions"),
        (WHOLE.replace(b"llama", b"ll\xffma"), "is damaged"),
    ],
)
def test_damage(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        header_of(tmp_path / "x.gguf", content)


def test_arrays_in_arrays_without_end(tmp_path: Path) -> None:
    nested = struct.pack("<IQ", 9, 1) * 5000
    start = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("x") + struct.pack("<I", 9)
    with pytest.raises(CheckpointError, match="is damaged"):
        header_of(tmp_path / "x.gguf", start + nested)


@pytest.mark.parametrize("seed", range(200))
def test_any_damage_is_an_error_of_ours(tmp_path: Path, seed: int) -> None:
    """Bytes changed at random: the file opens, or a sentence says what is wrong."""
    rng = np.random.default_rng(seed)
    content = bytearray(WHOLE)
    for place in rng.integers(0, len(content), 3):
        content[place] = rng.integers(0, 256)
    (tmp_path / "x.gguf").write_bytes(content)
    with suppress(CheckpointError):
        checkpoint = open_checkpoint(tmp_path / "x.gguf")
        for name in checkpoint.tensors:
            checkpoint.tensors.get(name).to_float32()
