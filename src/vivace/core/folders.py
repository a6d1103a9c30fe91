"""Folders that belong to the user."""

from __future__ import annotations

import os
from pathlib import Path

from vivace.core.errors import UsageError


def user_cache() -> Path:
    """Where this user's programs keep what they can make again: $XDG_CACHE_HOME, or ~/.cache.

    Raises:
        UsageError: neither says where that is.
    """
    named = os.environ.get("XDG_CACHE_HOME")
    if named:
        return Path(named)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        raise UsageError(
            "This user has no home folder: set XDG_CACHE_HOME to a folder for caches."
        ) from None
