"""Who runs, and on which pages."""

from __future__ import annotations

from vivace.cache.blocks import Found, KVManager
from vivace.cache.prefix import IntegrityError, Scope
from vivace.scheduler.config import SchedulerCounters
from vivace.scheduler.sequence import Sequence


class Seats:
    """A seated sequence runs: it has pages, and a token in every step. Without its seat a sequence
    keeps its pages until others need them.

    Args:
        kv: the pages.
        counters: of what happens here.
    """

    def __init__(self, kv: KVManager, counters: SchedulerCounters) -> None:
        self._kv = kv
        self._counters = counters
        self._taken = 0
        self._refused: tuple[Sequence, int, int] | None = None  # see `open`

    @property
    def taken(self) -> int:
        return self._taken

    def open(self, sequence: Sequence) -> bool:
        """Give a sequence without pages its shared ones. False where there is no room for all of
        its tokens, and one page more for each that runs: without, it would soon be preempted."""
        kv = self._kv
        attempt = (sequence, kv.pages_returned, self._taken)
        if self._refused == attempt:
            return False  # nothing has changed since
        pages = kv.allocate(
            sequence.tokens,
            Scope.of(sequence.request),
            spare=self._taken,
            reuses=sequence.reuses,
            ahead=sequence.request.ahead,
        )
        if pages is None:
            self._refused = attempt
            return False
        sequence.pages = pages
        if sequence.reuses and not sequence.preempted:
            self._counters.prefix_query_tokens += len(sequence.tokens)
        self._count_hit(sequence, Found())
        return True

    def catch_up(self, sequence: Sequence) -> None:
        """Share what others have computed of it since it was opened."""
        if sequence.decodes or not sequence.reuses:
            return
        assert sequence.pages is not None
        before = sequence.pages.found
        if self._kv.catch_up(sequence.pages):
            self._count_hit(sequence, before)

    def sit(self, sequence: Sequence, now: float) -> None:
        sequence.sit(now)
        self._taken += 1

    def pause(self, sequence: Sequence, now: float) -> None:
        """Its seat goes to another; its tokens, its pages and its place in the order stay."""
        sequence.stand(now)
        self._taken -= 1
        sequence.num_preemptions += 1
        self._counters.preemptions += 1

    def give_up_pages(self, sequence: Sequence, now: float) -> None:
        """The one place where a preempted sequence loses its pages: it is computed again later."""
        if sequence.seated:
            self.pause(sequence, now)
        sequence.preempted = True
        self._close(sequence)

    def leave(self, sequence: Sequence) -> None:
        """It has ended."""
        self._taken -= sequence.seated
        if sequence.pages is not None:
            self._close(sequence)

    def check_integrity(self, alive: list[Sequence]) -> None:
        """Raises IntegrityError unless the sequences agree on who is seated and who holds pages."""
        self._kv.check_integrity()
        if sum(one.seated for one in alive) != self._taken:
            raise IntegrityError("Seats are counted wrong.")
        if any(one.seated and one.pages is None for one in alive):
            raise IntegrityError("A sequence runs without pages.")
        holders = [one.pages for one in alive if one.pages is not None]
        if set(holders) != self._kv.live_sequences() or len(set(holders)) != len(holders):
            raise IntegrityError("Pages are held for a sequence that is gone, or for two.")

    def _count_hit(self, sequence: Sequence, before: Found) -> None:
        """What it found since it had found so much; after a preemption that is its own."""
        assert sequence.pages is not None
        if sequence.preempted:
            return
        found, counters = sequence.pages.found, self._counters
        num_tokens = sum(found) - sum(before)
        sequence.num_cached_tokens += num_tokens
        counters.prefix_hit_tokens += num_tokens
        counters.prefix_host_tokens += found.host - before.host
        counters.prefix_disk_tokens += found.disk - before.disk

    def _close(self, sequence: Sequence) -> None:
        assert sequence.pages is not None
        self._kv.release(sequence.pages)
        sequence.pages = None
