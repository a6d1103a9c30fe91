"""Packed weights kept from start to start: read where they are right, packed again where not."""

from __future__ import annotations

import multiprocessing
import os
import pwd
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vivace.backends.protocol import BatchLimits, LinearForm
from vivace.formats.qtensor import INT8, QTensor
from vivace.formats.schemes import int4

pytest.importorskip("vivace.backends.cpu._native")

from cpu_cases import Floats, Span, batch_of

from vivace.backends.cpu import CpuBackend, _native, cache_folder, packed_store
from vivace.backends.cpu.cache_folder import CacheFolder, default_root
from vivace.backends.cpu.packed import PackedStore

N, K = 2000, 1024  # a bfloat16 matrix is mapped, an int8 one is read
IN_INT8 = LinearForm(INT8)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A file that stands for a checkpoint's: stores look at nothing else of it."""
    path = tmp_path / "model" / "model.safetensors"
    path.parent.mkdir()
    path.write_bytes(b"one checkpoint")
    return path


@pytest.fixture
def cache(tmp_path: Path) -> CacheFolder:
    return CacheFolder(tmp_path / "cache")


def values(seed: int) -> Floats:
    return np.random.default_rng(seed).standard_normal((N, K)).astype(np.float32)


def outputs(
    checkpoint: Path, cache: CacheFolder, seed: int, form: LinearForm = IN_INT8, cut: str = ""
) -> Floats:
    """What a table times a linear gives, both made with a store and stored values of `seed`."""
    backend = CpuBackend("bfloat16", 2, store=PackedStore([checkpoint], cache, cut))
    table = backend.embedding(QTensor.from_array("table", values(9)))
    linear = backend.linear([QTensor.from_array("weight", values(seed))], form=form)
    program = backend.compile(
        lambda ops: ops.norm_linear(ops.embed(table), None, linear), [], BatchLimits(8, 1, 8)
    )
    return backend.numpy(program.run(batch_of([Span(0, 3)]))).copy()


def packed_files(cache: CacheFolder) -> list[Path]:
    return sorted(cache.root.glob("*/*"))


# A store that reads gives what was packed first: values of another seed show who packed.


@pytest.mark.parametrize("scheme", [None, INT8, int4(128), int4(32, zero_points=True)], ids=str)
def test_the_second_start_reads_what_the_first_packed(
    checkpoint: Path, cache: CacheFolder, scheme: Any
) -> None:
    form = LinearForm(scheme)
    first = outputs(checkpoint, cache, 0, form)
    assert len(packed_files(cache)) == 2
    np.testing.assert_array_equal(outputs(checkpoint, cache, 1, form), first)
    assert not np.array_equal(first, outputs(checkpoint, CacheFolder(cache.root / "x"), 1, form))


@pytest.mark.parametrize("maps", [True, False])
def test_mapped_or_read_a_weight_is_the_same(
    checkpoint: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch, maps: bool
) -> None:
    first = outputs(checkpoint, cache, 0)
    monkeypatch.setattr(_native, "maps_huge_pages", lambda file: maps)
    np.testing.assert_array_equal(outputs(checkpoint, cache, 1), first)


def test_forms_of_one_weight_are_kept_apart(checkpoint: Path, cache: CacheFolder) -> None:
    forms = [LinearForm(INT8), LinearForm(int4(64)), LinearForm(None)]
    first = [outputs(checkpoint, cache, 0, form) for form in forms]
    again = [outputs(checkpoint, cache, 1, form) for form in forms]
    np.testing.assert_array_equal(again, first)
    assert len(packed_files(cache)) == 4


def test_a_changed_checkpoint_is_packed_again(checkpoint: Path, cache: CacheFolder) -> None:
    """The same size, other bytes, another time; and what was kept of the old one goes."""
    outputs(checkpoint, cache, 0)
    old = packed_files(cache)
    state = checkpoint.stat()
    checkpoint.write_bytes(b"two checkpoint")
    os.utime(checkpoint, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    second = outputs(checkpoint, cache, 1)
    np.testing.assert_array_equal(second, outputs(checkpoint, cache, 2))
    assert not set(old) & set(packed_files(cache))
    os.utime(checkpoint, ns=(state.st_atime_ns, state.st_mtime_ns + 2))
    assert not np.array_equal(second, outputs(checkpoint, cache, 3))


def test_a_file_put_in_its_place_is_another_checkpoint(
    checkpoint: Path, cache: CacheFolder
) -> None:
    """The same size, first bytes and time of change."""
    first = outputs(checkpoint, cache, 0)
    state = checkpoint.stat()
    other = checkpoint.with_name("other")
    other.write_bytes(checkpoint.read_bytes())
    os.utime(other, ns=(state.st_atime_ns, state.st_mtime_ns))
    other.replace(checkpoint)
    assert not np.array_equal(outputs(checkpoint, cache, 1), first)


def test_weights_that_are_cut_another_way_are_packed_again(
    checkpoint: Path, cache: CacheFolder
) -> None:
    first = outputs(checkpoint, cache, 0, cut="one way")
    np.testing.assert_array_equal(outputs(checkpoint, cache, 1, cut="one way"), first)
    assert not np.array_equal(outputs(checkpoint, cache, 1, cut="another"), first)


def test_a_hub_s_model_goes_by_its_name_and_its_older_revisions_are_forgotten(
    tmp_path: Path, cache: CacheFolder
) -> None:
    model = tmp_path / "models--some[1]--one"
    (model / "blobs").mkdir(parents=True)
    for revision in ("aaaa", "bbbb"):
        blob = model / "blobs" / f"digest-{revision}"
        blob.write_bytes(revision.encode())
        link = model / "snapshots" / revision / "model.safetensors"
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
        outputs(link, cache, 0)
        (kept,) = cache.models()
        assert kept.name.startswith("some[1]--one-")


def _cut(content: bytes) -> bytes:
    return content[:-100]


def _cut_to_nothing(content: bytes) -> bytes:
    return b""


def _flip_a_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def _zero_a_page(content: bytes) -> bytes:
    return content[:4096] + bytes(4096) + content[8192:]


def _foreign_footer(content: bytes) -> bytes:
    return content.replace(b"linear", b"lineal").replace(b"embedding", b"embeddinh")


def _no_json(content: bytes) -> bytes:
    return content.replace(b'{"key"', b'["key"')


@pytest.mark.parametrize(
    "damage", [_cut, _cut_to_nothing, _flip_a_bit, _zero_a_page, _foreign_footer, _no_json]
)
def test_a_damaged_file_is_packed_and_written_again(
    checkpoint: Path, cache: CacheFolder, damage: Any
) -> None:
    first = outputs(checkpoint, cache, 0)
    for path in packed_files(cache):
        changed = damage(path.read_bytes())
        assert changed != path.read_bytes()
        path.write_bytes(changed)
    second = outputs(checkpoint, cache, 1)
    assert not np.array_equal(second, first)
    np.testing.assert_array_equal(outputs(checkpoint, cache, 2), second)


def test_small_weights_are_not_worth_a_file(checkpoint: Path, cache: CacheFolder) -> None:
    backend = CpuBackend(store=PackedStore([checkpoint], cache))
    backend.linear([QTensor.from_array("weight", values(0)[:8])])
    assert packed_files(cache) == []


def test_files_stay_below_the_limit_and_the_oldest_go(tmp_path: Path, cache: CacheFolder) -> None:
    notices: list[str] = []
    limit = 7 * N * K  # room for two checkpoints of about three bytes a weight, not for three
    for index in range(3):
        checkpoint = tmp_path / f"model-{index}"
        checkpoint.write_bytes(b"")
        outputs(checkpoint, CacheFolder(cache.root, limit, notices.append), index)
        new = [path for path in packed_files(cache) if path.stat().st_mtime > 1000]
        for path in new:
            os.utime(path, (index, index))
    assert {model.used for model in cache.models()} == {1, 2}
    assert sum(model.nbytes for model in cache.models()) <= limit
    assert notices == []


def test_many_weights_are_kept_without_looking_at_all_of_them_each_time(
    cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = []
    files_of = cache_folder._files
    monkeypatch.setattr(cache_folder, "_files", lambda root: scans.append(root) or files_of(root))

    def write(file: int) -> bool:
        return os.write(file, bytes(100)) == 100

    def sizes(folder: CacheFolder, model: str) -> list[int]:
        found = []
        for index in range(200):
            folder.add(folder.root / model / str(index), 100, write)
            found.append(sum(path.stat().st_size for path in packed_files(folder)))
        return found

    limit = 30_000  # room for one model of 20,000 bytes, and for half of another
    one, other = (CacheFolder(cache.root, limit) for _ in range(2))
    assert sizes(one, "one")[-1] == 20_000
    assert len(scans) == 1
    full = sizes(other, "other")
    assert max(full) <= limit
    assert len([path for path in packed_files(cache) if path.parent.name == "other"]) == 200
    assert len(scans) < 12


def test_a_weight_beyond_the_limit_is_not_kept_and_the_user_is_told_once(
    checkpoint: Path, cache: CacheFolder
) -> None:
    notices: list[str] = []
    small = CacheFolder(cache.root, limit_bytes=1000, notify=notices.append)
    outputs(checkpoint, small, 0)
    assert packed_files(cache) == []
    assert len(notices) == 1
    assert "too little room" in notices[0]


def test_a_folder_that_cannot_be_written_only_costs_the_next_start(
    checkpoint: Path, tmp_path: Path
) -> None:
    notices: list[str] = []
    (tmp_path / "file").write_bytes(b"")
    outputs(checkpoint, CacheFolder(tmp_path / "file" / "cache", notify=notices.append), 0)
    assert len(notices) == 1
    assert "packs again" in notices[0]


def _start(checkpoint: Path, root: Path, results: Any) -> None:
    results.put(outputs(checkpoint, CacheFolder(root), 0))


def test_processes_that_start_together_agree(checkpoint: Path, cache: CacheFolder) -> None:
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (checkpoint, cache.root, results)
    processes = [context.Process(target=_start, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    first, second = (results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(outputs(checkpoint, cache, 1), first)
    assert not [path for path in packed_files(cache) if path.suffix]


def test_listing_and_clearing(checkpoint: Path, cache: CacheFolder) -> None:
    outputs(checkpoint, cache, 0)
    (model,) = cache.models()
    assert model.name.startswith("model-")
    assert cache.clear() == model.nbytes > 0
    assert cache.models() == []
    assert cache.clear() == 0


def test_only_what_is_gone_counts_as_freed(
    checkpoint: Path, cache: CacheFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs(checkpoint, cache, 0)
    (model,) = cache.models()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: packed_files(cache)[0].unlink())
        freed = cache.clear()
    assert 0 < freed < model.nbytes
    assert freed + cache.clear() == model.nbytes


def test_without_a_home_nothing_is_kept_and_the_user_is_told(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    notices: list[str] = []
    assert packed_store([checkpoint], "", notices.append) is None
    assert len(notices) == 1
    assert "set XDG_CACHE_HOME" in notices[0]


def test_the_folder_is_the_user_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_root() == tmp_path / "vivace" / "packed"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_root() == tmp_path / ".cache" / "vivace" / "packed"
