"""Files as they are after a reboot: on the disk, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path


def drop_from_cache(folder: Path) -> None:
    """Have the system forget what it holds in memory of the files below a folder, where it can be
    asked to (Linux); a disk behind it may still remember."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.rglob("*"):
        if path.is_file():
            _drop(path)


def _drop(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)  # what is not written yet cannot be dropped
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
