"""The tier of pages in files."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from pathlib import Path

from vivace.cache.stored import PageKey, StoredPage, decode, encode

_SUFFIX = ".page"
_PASSING = ".part"
_FOLDER_DIGITS = 16


class DiskTier:
    """A file per page, within a bound; the least recently used give way, of any model.

    Files are found again by the next start. Processes that share the folder never take a wrong
    page from it, but each counts only the files it knows of. `read` and `write` are called from
    one thread, `in` from any.

    Args:
        folder: for pages of all models; made where it is not there.
        fingerprint: 32 bytes; pages kept under another one are not found.
        capacity_bytes: what all files in the folder may take together.

    Raises:
        OSError: the folder cannot be made or read.

    Attributes:
        nbytes: what all files take.
        broken: files that were not what had been written; they are gone.
        failed: pages that could not be written.
    """

    def __init__(self, folder: Path, fingerprint: bytes, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.broken = 0
        self.failed = 0
        self._fingerprint = fingerprint
        self._folder = folder / fingerprint.hex()[:_FOLDER_DIGITS]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files = _found(folder)
        self.nbytes = sum(self._files.values())
        self._make_room(0)

    def __contains__(self, key: PageKey) -> bool:
        return self._path(key) in self._files

    def read(self, key: PageKey) -> StoredPage | None:
        """The page, which counts as used now; None where there is none that can be trusted."""
        path = self._path(key)
        try:
            page = decode(path.read_bytes(), self._fingerprint, key)
        except FileNotFoundError:
            self._forget(path)
            return None
        except (OSError, ValueError):
            self.broken += 1
            self._remove(path)
            return None
        if path in self._files:
            self._files.move_to_end(path)
            with contextlib.suppress(OSError):
                os.utime(path)
        return page

    def write(self, key: PageKey, page: StoredPage) -> bool:
        """Keep a page; False where it could not be.

        Files are not flushed to the device: what a power cut leaves of one fails its checksum.
        """
        path, content = self._path(key), encode(self._fingerprint, key, page)
        if len(content) > self.capacity_bytes:
            self.failed += 1
            return False
        self._remove(path)
        self._make_room(len(content))
        passing = path.with_suffix(_PASSING)
        try:
            passing.write_bytes(content)
            os.replace(passing, path)
        except OSError:
            self.failed += 1
            with contextlib.suppress(OSError):
                passing.unlink(missing_ok=True)
            return False
        self._files[path] = len(content)
        self.nbytes += len(content)
        return True

    def clear(self) -> None:
        """Remove this fingerprint's pages; those of other models stay."""
        for path in [path for path in self._files if path.parent == self._folder]:
            self._remove(path)

    def _path(self, key: PageKey) -> Path:
        return self._folder / f"{key.digest.hex()}-{key.group}{_SUFFIX}"

    def _make_room(self, num_bytes: int) -> None:
        while self._files and self.nbytes + num_bytes > self.capacity_bytes:
            self._remove(next(iter(self._files)))

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        self._forget(path)

    def _forget(self, path: Path) -> None:
        self.nbytes -= self._files.pop(path, 0)


def _found(folder: Path) -> OrderedDict[Path, int]:
    """Every page's file and size, the least recently used first; halves of files are removed."""
    for passing in folder.glob(f"*/*{_PASSING}"):
        passing.unlink(missing_ok=True)
    states = []
    for path in folder.glob(f"*/*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # another process made room
            states.append((path, path.stat()))
    states.sort(key=lambda one: one[1].st_mtime_ns)
    return OrderedDict((path, state.st_size) for path, state in states)
