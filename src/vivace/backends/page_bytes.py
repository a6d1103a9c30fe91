"""Pages as bytes, and what every backend refuses of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import BackendError

PageBytes: TypeAlias = NDArray[np.uint8]


def check_pages(pages: Sequence[int], num_pages: int) -> None:
    """Raises BackendError where one is unknown."""
    if pages and not 0 <= min(pages) <= max(pages) < num_pages:
        raise BackendError(f"Pages must lie in [0, {num_pages}).")


def check_page_bytes(data: PageBytes, num_pages: int, num_bytes: int) -> None:
    """Raises BackendError where data are not [num_pages, num_bytes]."""
    if data.shape != (num_pages, num_bytes):
        raise BackendError(
            f"{num_pages} pages of {num_bytes} bytes cannot be filled with {data.shape} bytes."
        )
