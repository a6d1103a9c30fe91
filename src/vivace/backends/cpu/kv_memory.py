"""Where the layers of a KV cache lie in memory."""

from __future__ import annotations

from collections import Counter

from vivace.backends.cpu import _native

LEAST_LAYER = 2 * _native.HUGE_PAGE  # bytes; less is touched in no time
MOST_EXTRA = 32  # pages


def spread_pages(num_pages: int, page_bytes: int, num_layers: int) -> int:
    """As many pages for each layer, or a few more that nobody uses, so that the layers, one behind
    another, begin at different places of a huge page.

    A step writes to the same pages in every layer, and the system takes milliseconds to find a
    huge page when it is first written to. In layers that began at equal places, as they do where
    the number of pages is a power of two, all would be found in the same step.
    """
    if num_pages * page_bytes < LEAST_LAYER or num_layers == 1:
        return num_pages
    choices = range(num_pages, num_pages + MOST_EXTRA)
    return min(choices, key=lambda pages: _most_together(pages * page_bytes, num_layers))


def _most_together(layer_bytes: int, num_layers: int) -> int:
    """How many layers begin in the same one of `num_layers` equal parts of a huge page."""
    size = _native.HUGE_PAGE
    parts = Counter(layer * layer_bytes % size * num_layers // size for layer in range(num_layers))
    return max(parts.values())
