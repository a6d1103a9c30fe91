"""Packed weights kept on disk, so that the next start reads them instead of packing again.

Each checkpoint has a folder, each weight a file in it: the packed bytes, in large files up to a
whole huge page, then a JSON footer (the weight's key and a checksum per block), then the footer's
length in eight bytes. A file that is not exactly what was written for its key is packed and written
again. Large weights are mapped where the system maps files in huge pages, and read elsewhere.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from vivace.backends.cpu import _native
from vivace.backends.cpu.cache_folder import CacheFolder
from vivace.formats.identity import file_identity

LAYOUT = 2  # raised when the same key comes to mean other bytes

_LEAST_BYTES = 2**18  # smaller weights are packed faster than a file is opened
_LENGTH_BYTES = 8
_DIGITS = 16


class Packed(Protocol):
    """A weight that can take its bytes from a file."""

    @property
    def nbytes(self) -> int: ...
    @property
    def file_bytes(self) -> int: ...
    def write(self, runtime: _native.Runtime, file: int) -> list[int] | None: ...
    def read(self, runtime: _native.Runtime, file: int, checksums: list[int]) -> bool: ...
    def map(self, runtime: _native.Runtime, file: int, checksums: list[int]) -> bool: ...


class PackedStore:
    """The packed weights of one checkpoint.

    Args:
        files: every file that its weights stand in. Where a path, an inode, a size, a time of
            change or the first bytes (which hold the header) differ, it is another checkpoint.
        cache: the folder that all stores share.
        cut: changes with the code that cuts stored tensors into weights.
    """

    def __init__(self, files: Iterable[Path], cache: CacheFolder, cut: str = "") -> None:
        paths = sorted(Path(os.path.abspath(file)) for file in files)
        self._cache = cache
        self._cut = cut
        self._identity = _digest("\n".join(file_identity(path.resolve()) for path in paths))
        self._place = _place(paths)
        self._folder = cache.root / f"{self._place}-{self._identity}"
        self._maps: bool | None = None  # as the first large file tells

    def fill(
        self, weight: Packed, runtime: _native.Runtime, key: object, pack: Callable[[], None]
    ) -> None:
        """Read a weight's bytes; or pack them, and keep them for the next time.

        Args:
            key: what tells the weight from the checkpoint's others, and says how it is packed.
        """
        made = LAYOUT, _native.SOURCES, self._cut, runtime.isa
        full_key = repr((*made, self._identity, key))
        path = self._folder / _digest(full_key)
        if self._read(path, full_key, weight, runtime):
            self._cache.used(path)
            return
        pack()
        if weight.nbytes < _LEAST_BYTES:
            return
        self._forget_older()
        size = weight.file_bytes
        self._cache.add(path, size, lambda file: _write(file, full_key, weight, runtime))

    def _read(self, path: Path, key: str, weight: Packed, runtime: _native.Runtime) -> bool:
        try:
            file = os.open(path, os.O_RDONLY)
        except OSError:
            return False
        try:
            footer = _footer(file, weight.file_bytes)
            if footer.get("key") != key:
                return False
            take = weight.map if self._is_mapped(weight, file) else weight.read
            return take(runtime, file, footer["checksums"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return False  # damaged
        finally:
            os.close(file)

    def _is_mapped(self, weight: Packed, file: int) -> bool:
        if weight.nbytes < _native.HUGE_PAGE:
            return False
        if self._maps is None:
            self._maps = _native.maps_huge_pages(file)
        return self._maps

    def _forget_older(self) -> None:
        """Remove what was packed from other bytes that stood in the same place."""
        for folder in self._cache.root.glob(f"{glob.escape(self._place)}-*"):
            if folder != self._folder:
                self._cache.remove(folder)


def _place(paths: list[Path]) -> str:
    """A name that stays when a checkpoint changes. A hub's cache has a folder per model, with one
    for each revision, which links to files named by their digests."""
    folder = paths[0].parent
    if folder.parent.name == "snapshots":
        folder = folder.parents[1]
    digest = _digest(repr((str(folder), [path.name for path in paths])))
    return f"{folder.name.removeprefix('models--')}-{digest}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _write(file: int, key: str, weight: Packed, runtime: _native.Runtime) -> bool:
    checksums = weight.write(runtime, file)
    if checksums is None:
        return False
    footer = json.dumps({"key": key, "checksums": checksums}).encode()
    footer += len(footer).to_bytes(_LENGTH_BYTES, "little")
    return os.pwrite(file, footer, weight.file_bytes) == len(footer)


def _footer(file: int, start: int) -> dict[str, Any]:
    """Raises ValueError where there is none at `start`."""
    length = os.fstat(file).st_size - start - _LENGTH_BYTES
    if length < 0:
        raise ValueError("the file is too short")
    stored = os.pread(file, length + _LENGTH_BYTES, start)
    if int.from_bytes(stored[length:], "little") != length:
        raise ValueError("the file has another length")
    footer: dict[str, Any] = json.loads(stored[:length])
    return footer
