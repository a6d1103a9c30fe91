"""A folder of files that can be made again: bounded, safe to share and to remove."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from vivace.core.folders import user_cache

LIMIT_BYTES = 32 * 2**30
_LEAST_FREE_BYTES = 4 * 2**30  # always left to others
_MORE_ROOM = 16  # a share of the limit that is made free beyond what is asked: scans stay rare


def default_root() -> Path:
    """Where packed weights are kept unless said otherwise; raises as `user_cache`."""
    return user_cache() / "vivace" / "packed"


@dataclass(frozen=True)
class CachedFile:
    path: Path
    nbytes: int
    used: float  # seconds since the epoch


@dataclass(frozen=True)
class CachedModel:
    """What is kept of one checkpoint."""

    name: str
    nbytes: int
    used: float


@dataclass
class CacheFolder:
    """Files in subfolders of `root`, the least recently used of which make room for new ones.

    Any number of processes may share it: a file appears under its name when it is whole.

    Attributes:
        limit_bytes: what all files together may take.
        notify: told, once, why nothing more is kept.
    """

    root: Path = field(default_factory=default_root)
    limit_bytes: int = LIMIT_BYTES
    notify: Callable[[str], None] = lambda line: None
    _full: bool = field(default=False, init=False)
    _in_use: set[Path] = field(default_factory=set, init=False)
    _total: int | None = field(default=None, init=False)  # bytes

    def used(self, path: Path) -> None:
        """Remember that a file is worth keeping."""
        self._in_use.add(path)
        with contextlib.suppress(OSError):
            os.utime(path)

    def add(self, path: Path, nbytes: int, write: Callable[[int], bool]) -> None:
        """Keep a file of about `nbytes`, which `write` fills through its descriptor and says
        whether it could."""
        if self._full:
            return
        try:
            if self._has_room(nbytes) and _write_aside(path, write):
                self._in_use.add(path)
                self._total = self._counted() + path.stat().st_size
                return
            reason = "there is too little room"
        except OSError as error:
            reason = error.strerror or str(error)
        self._full = True
        self.notify(
            f"Packed weights are not kept in {self.root} ({reason}): the next start packs again."
        )

    def models(self) -> list[CachedModel]:
        """What is kept, the most recently used checkpoint first."""
        by_name: dict[str, list[CachedFile]] = {}
        for file in _files(self.root):
            by_name.setdefault(file.path.parent.name, []).append(file)
        models = [
            CachedModel(name, _size(files), max(f.used for f in files))
            for name, files in by_name.items()
        ]
        return sorted(models, key=lambda model: model.used, reverse=True)

    def remove(self, folder: Path) -> None:
        """Remove what is kept of one checkpoint, as far as it can be."""
        shutil.rmtree(folder, ignore_errors=True)
        self._total = None

    def clear(self) -> int:
        """Remove everything that can be removed; returns how many bytes that freed."""
        kept = _size(_files(self.root))
        self.remove(self.root)
        return kept - _size(_files(self.root))

    def _has_room(self, nbytes: int) -> bool:
        """Make room where files that are not in use stand in the way."""
        self.root.mkdir(parents=True, exist_ok=True)
        if self._counted() + nbytes > self.limit_bytes:
            self._total = self._make_room(nbytes + self.limit_bytes // _MORE_ROOM)
        free = shutil.disk_usage(self.root).free
        return self._counted() + nbytes <= self.limit_bytes and free - nbytes >= _LEAST_FREE_BYTES

    def _counted(self) -> int:
        if self._total is None:
            self._total = _size(_files(self.root))
        return self._total

    def _make_room(self, nbytes: int) -> int:
        """Remove files until there is room, or all are in use; returns the bytes that are left."""
        files = sorted(_files(self.root), key=lambda file: file.used)
        total = _size(files)
        for file in files:
            if total + nbytes <= self.limit_bytes:
                break
            if file.path not in self._in_use:
                file.path.unlink(missing_ok=True)
                total -= file.nbytes
        return total


def _size(files: list[CachedFile]) -> int:
    return sum(file.nbytes for file in files)


def _files(root: Path) -> list[CachedFile]:
    """Every file below the root; one that goes away meanwhile is left out."""
    found = []
    for path in root.glob("*/*"):
        with contextlib.suppress(OSError):
            state = path.stat()
            found.append(CachedFile(path, state.st_size, state.st_mtime))
    return found


def _write_aside(path: Path, write: Callable[[int], bool]) -> bool:
    """Fill a file under a passing name and rename it; nothing is left of one that failed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, passing = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        written = write(descriptor)
        if written:
            os.replace(passing, path)
        return written
    finally:
        os.close(descriptor)
        Path(passing).unlink(missing_ok=True)
