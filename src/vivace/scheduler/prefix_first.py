"""Longest known prefix first: its pages are read while they are still there."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from vivace.cache.blocks import KVManager
from vivace.cache.prefix import Scope
from vivace.scheduler.sequence import Sequence

PATIENCE_SECONDS = 5.0
PROBE_SECONDS = 0.25  # how old an answer of the prefix tree may be
PROBED = 32  # sequences looked up at most in one step
PROBED_TOKENS = 4096  # of each: more would not change the order, and cost time in every step


class PrefixFirst:
    """Among equals, who has the longest prefix in the cache goes first (Zheng et al., SGLang,
    NeurIPS 2024). Nobody starves: who waited `PATIENCE_SECONDS` goes before all of them.
    """

    def __init__(self, kv: KVManager) -> None:
        self._kv = kv
        self._known: dict[Sequence, tuple[float, int]] = {}  # when it was looked up, and tokens

    def keys(self, sequences: Iterable[Sequence], now: float) -> list[float]:
        """A number for each, given in order of arrival; lower goes first."""
        before, self._known = self._known, {}
        probes, keys = PROBED, []
        for sequence in sequences:
            if sequence.pages is not None or sequence.waited(now) >= PATIENCE_SECONDS:
                keys.append(-inf)
                continue
            looked, tokens = before.get(sequence, (-inf, 0))
            if probes and now - looked >= PROBE_SECONDS:
                looked, tokens = now, self._look_up(sequence)
                probes -= 1
            self._known[sequence] = looked, tokens
            keys.append(-float(tokens))
        return keys

    def _look_up(self, sequence: Sequence) -> int:
        if not sequence.reuses:
            return 0
        scope = Scope.of(sequence.request)
        return self._kv.known_tokens(sequence.tokens[:PROBED_TOKENS], scope)
