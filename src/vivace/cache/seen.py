"""What rows see, in blocks: which pages a sequence must keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vivace.core.sight import Sight


class SeenBlocks(NamedTuple):
    """A `Sight` over blocks of `page_tokens` positions."""

    sight: Sight
    page_tokens: int

    @property
    def sinks(self) -> int:
        """The first blocks, which hold sinks: every row sees them."""
        return -(-self.sight.sinks // self.page_tokens)

    def always(self, block: int) -> bool:
        """Whether every row of a prefix behind a block sees it."""
        return self.sight.window is None or block < self.sinks

    def first_recent(self, position: int) -> int:
        """The first block that a row at `position` or later sees, sinks left out."""
        return self.sight.first_recent(position) // self.page_tokens

    def sees(self, block: int, position: int) -> bool:
        """Whether some row at `position` or later sees any of a block."""
        return self.always(block) or block >= self.first_recent(position)

    def max_held(self, num_tokens: int) -> int:
        """Blocks needed at once to compute that many positions, one at a time."""
        blocks = -(-num_tokens // self.page_tokens)
        if self.sight.window is None:
            return blocks
        recent = (self.sight.window + self.page_tokens - 2) // self.page_tokens + 1
        return min(blocks, self.sinks + recent)


def none_seen(sights: Sequence[SeenBlocks], missing: Sequence[int], position: int) -> bool:
    """Whether a row at `position` sees none of the missing blocks, the last of each group; sinks
    are not among them."""
    return all(
        last < seen.first_recent(position) for seen, last in zip(sights, missing, strict=True)
    )
