"""Files of pages: exact, bounded, and never believed when damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vivace.cache.disk import DiskTier
from vivace.cache.stored import PageKey, StoredPage, decode, encode

pytestmark = pytest.mark.tiny

MODEL = bytes(range(32))
PAGE = StoredPage(b"p" * 32, (1, -2, 2**40), bytes(range(50)))
SIZE = len(encode(MODEL, PageKey(b"k" * 32, 0), PAGE))


def key(number: int, group: int = 0) -> PageKey:
    return PageKey(number.to_bytes(32, "big"), group)


def only_file(folder: Path) -> Path:
    (path,) = folder.glob("*/*.page")
    return path


def test_a_page_is_read_as_it_was_written() -> None:
    assert decode(encode(MODEL, key(1), PAGE), MODEL, key(1)) == PAGE


def test_any_changed_byte_and_any_cut_is_noticed() -> None:
    content = encode(MODEL, key(1), PAGE)
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1
        with pytest.raises(ValueError, match="the file"):
            decode(bytes(damaged), MODEL, key(1))
        with pytest.raises(ValueError, match="the file"):
            decode(content[:at], MODEL, key(1))


@pytest.mark.parametrize(
    ("model", "asked"), [(b"m" * 32, key(1)), (MODEL, key(2)), (MODEL, key(1, group=1))]
)
def test_a_file_of_something_else_is_noticed(model: bytes, asked: PageKey) -> None:
    with pytest.raises(ValueError, match="another page"):
        decode(encode(MODEL, key(1), PAGE), model, asked)


def test_another_start_finds_the_files_of_its_model_alone(tmp_path: Path) -> None:
    DiskTier(tmp_path, MODEL, 10**6).write(key(1), PAGE)
    again = DiskTier(tmp_path, MODEL, 10**6)
    assert key(1) in again
    assert again.read(key(1)) == PAGE
    other = DiskTier(tmp_path, b"o" * 32, 10**6)
    assert key(1) not in other
    assert other.read(key(1)) is None
    assert other.nbytes == SIZE


def test_a_damaged_file_is_dropped_and_counted(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, MODEL, 10**6)
    tier.write(key(1), PAGE)
    path = only_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert tier.read(key(1)) is None
    assert tier.broken == 1
    assert not path.exists()
    assert (key(1) in tier, tier.nbytes) == (False, 0)


def test_the_least_recently_used_file_gives_way(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, MODEL, 3 * SIZE)
    for number in (1, 2, 3):
        tier.write(key(number), PAGE)
    tier.read(key(1))
    tier.write(key(4), PAGE)
    assert [number for number in range(1, 5) if key(number) in tier] == [1, 3, 4]
    assert tier.nbytes == sum(path.stat().st_size for path in tmp_path.glob("*/*")) == 3 * SIZE


def test_use_is_remembered_by_the_next_start(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, MODEL, 3 * SIZE)
    for number in (1, 2, 3):
        tier.write(key(number), PAGE)
    for age, path in enumerate(sorted(tmp_path.glob("*/*.page"))):
        os.utime(path, (age, age))
    tier.read(key(1))
    again = DiskTier(tmp_path, MODEL, 2 * SIZE)
    assert [number for number in (1, 2, 3) if key(number) in again] == [1, 3]


def test_half_a_file_is_removed_at_the_next_start(tmp_path: Path) -> None:
    DiskTier(tmp_path, MODEL, 10**6).write(key(1), PAGE)
    half = only_file(tmp_path).with_suffix(".part")
    half.write_bytes(b"half")
    DiskTier(tmp_path, MODEL, 10**6)
    assert not half.exists()


def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, MODEL, SIZE - 1)
    assert not tier.write(key(1), PAGE)
    assert tier.failed == 1


def test_a_file_that_somebody_removed_is_no_longer_there(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, MODEL, 10**6)
    tier.write(key(1), PAGE)
    only_file(tmp_path).unlink()
    assert tier.read(key(1)) is None
    assert (key(1) in tier, tier.nbytes, tier.broken) == (False, 0, 0)
