"""A file's bytes as memory: nothing is read before it is looked at."""

from __future__ import annotations

import mmap
from pathlib import Path


class MappedFile:
    """Maps a file when its bytes are first asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bytes: mmap.mmap | None = None

    @property
    def bytes(self) -> mmap.mmap:
        if self._bytes is None:
            with self.path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._bytes

    def release(self) -> None:
        """Take what was read out of this process' resident memory; views stay valid."""
        if self._bytes is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._bytes.madvise(mmap.MADV_DONTNEED)
