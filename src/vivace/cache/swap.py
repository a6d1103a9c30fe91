"""Pages of a preempted sequence in host memory, and when that is worth it."""

from __future__ import annotations

from typing import NamedTuple


class SwappedPages(NamedTuple):
    """What a sequence had computed.

    Attributes:
        computed: positions [0, computed) were in pages.
        firsts: per KV group the first block whose page a later row sees.
        data: per KV group the pages from there on.
    """

    computed: int
    firsts: tuple[int, ...]
    data: tuple[tuple[bytes, ...], ...]

    @property
    def nbytes(self) -> int:
        return sum(len(page) for pages in self.data for page in pages)


def swap_is_cheaper(
    num_bytes: int, bytes_per_second: float, num_tokens: int, seconds_per_token: float
) -> bool:
    """Whether copying pages out and in again takes less time than computing their tokens again."""
    return 2 * num_bytes / bytes_per_second < num_tokens * seconds_per_token
