"""What a row of attention sees of its sequence, and so what the KV cache must keep."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from vivace.core.errors import UsageError

SINK_TOKENS = 4  # enough for models that were trained without a sink of their own (Xiao et al.)
OBSERVED_TOKENS = 32  # the last of a prompt, whose rows choose what is kept of it
_FORM = re.compile(r"sinks:(\d{1,9})(?::(\d{1,9}))?|snap:(\d{1,9})")


@dataclass(frozen=True)
class Sight:
    """All positions up to a row's own, or some of them.

    With a window: once they are more than `sinks + window`, the first `sinks` and the last
    `window`, its own included (Xiao et al., StreamingLLM, ICLR 2024). What a row sees is counted
    without a gap: a row that evicts meets its window at the true distances, and its sinks from the
    position that it has in the cache. So it depends on a row's own position alone, and no distance
    is larger than the cache.

    With `kept`: once a longer prompt is computed, so many of its positions, chosen for each KV head
    by the last rows' attention, take the places of its last ones; rows behind it see nothing before
    those (Li et al., SnapKV, 2024).

    Attributes:
        window: None is all.
        sinks: 0 where window is None.
        kept: None keeps all.
        prompt: tokens of the prompt; None where it is not known yet, and nothing is cut.
    """

    window: int | None = None
    sinks: int = 0
    kept: int | None = None
    prompt: int | None = None

    @staticmethod
    def parse(text: str) -> Sight:
        """ "none", "sinks:WINDOW", "sinks:WINDOW:SINKS" or "snap:KEPT", in tokens.

        Raises:
            UsageError: it is none of these, or keeps too little.
        """
        if text == "none":
            return ALL
        match = _FORM.fullmatch(text)
        window, sinks, kept = match.groups() if match else (None, None, None)
        if kept and int(kept) > OBSERVED_TOKENS:
            return Sight(kept=int(kept))
        if not window or not int(window):
            raise UsageError(
                "KV eviction must be none, sinks:WINDOW, sinks:WINDOW:SINKS or snap:TOKENS with "
                f"more than {OBSERVED_TOKENS} tokens, got {text!r}."
            )
        return Sight(int(window), SINK_TOKENS if sinks is None else int(sinks))

    def __str__(self) -> str:
        if self.kept is not None:
            return f"snap:{self.kept}"
        return "none" if self.window is None else f"sinks:{self.window}:{self.sinks}"

    def of_prompt(self, num_tokens: int) -> Sight:
        """This, for a request with such a prompt."""
        return self if self.kept is None else replace(self, prompt=num_tokens)

    @property
    def uncut(self) -> Sight:
        """What rows of the prompt see."""
        return self if self.kept is None else replace(self, kept=None, prompt=None)

    @property
    def cut(self) -> int | None:
        """The first position whose row sees only what is kept of the prompt; None where all is."""
        if self.kept is None or self.prompt is None or self.prompt <= self.kept:
            return None
        return self.prompt

    @property
    def first_kept(self) -> int:
        """The first of the places that what is kept of the prompt takes; 0 where all is."""
        return 0 if self.cut is None or self.kept is None else self.cut - self.kept

    @property
    def reach(self) -> int | None:
        """How many positions a row sees at most; None is no bound."""
        return None if self.window is None else self.sinks + self.window

    def first_recent(self, position: int) -> int:
        """The first position that a row sees, sinks left out."""
        first = 0 if self.cut is None or position < self.cut else self.first_kept
        if self.window is None or position < self.sinks + self.window:
            return first
        return max(first, position - self.window + 1)

    def step_end(self, start: int, end: int) -> int:
        """Where a step ends that begins at `start` and would end at `end`: no step has rows on both
        sides of the cut."""
        return end if self.cut is None or start >= self.cut else min(end, self.cut)

    def within(self, window: int | None) -> Sight:
        """What rows of such a sequence see in a layer with a window of its own: the narrower."""
        if self.window is None:
            return replace(self, window=window)
        own = window is not None and window <= self.sinks + self.window
        return Sight(window) if own else self


ALL = Sight()
