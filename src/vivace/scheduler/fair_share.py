"""Shares of the engine among tenants.

Virtual token counters (Sheng et al., Fairness in Serving Large Language Models, OSDI 2024): each
tenant's counter is the service it got, over its weight, and the least served goes first. No
engine time is kept free for anyone: a tenant alone gets everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from vivace.scheduler.sequence import Sequence

PROMPT_COST = 1.0  # the paper's costs: a token drawn takes about twice the engine of one read
OUTPUT_COST = 2.0


class FairShare:
    """Args:
    weights: by tenant; a tenant that is not in it has weight 1.
    """

    def __init__(self, weights: Mapping[str, float] | None = None) -> None:
        self._weights = dict(weights or {})
        self._counters: dict[str, float] = {}
        self._alive: Counter[str] = Counter()  # requests of each tenant that has any
        self._floor = 0.0  # the counter of the tenant that was the last to leave

    def counter(self, tenant: str) -> float:
        """Service over weight, in prompt tokens; only differences mean something."""
        return self._counters.get(tenant, 0.0)

    def join(self, tenant: str) -> None:
        """A request of this tenant arrived. A tenant that comes back is lifted to the least of
        the active ones: time away earns nothing."""
        if not self._alive[tenant]:
            active = [self.counter(other) for other in +self._alive]
            lifted = min(active, default=self._floor)
            self._counters[tenant] = max(self.counter(tenant), lifted)
        self._alive[tenant] += 1

    def leave(self, tenant: str) -> None:
        """A request of this tenant ended."""
        self._alive[tenant] -= 1
        if self._alive[tenant]:
            return
        del self._alive[tenant]
        self._floor = self.counter(tenant)
        self._forget_paid()

    def charge(self, sequence: Sequence, start: int, end: int, drawn: int) -> None:
        """Positions [start, end) were computed, and `drawn` tokens drawn.

        What was found in the cache costs nothing, and what is computed again no second time.
        """
        prompt = len(sequence.request.prompt_token_ids)
        fresh = max(0, min(end, prompt) - max(start, sequence.served))
        sequence.served = max(sequence.served, min(end, prompt))
        tenant = sequence.request.tenant
        self._counters[tenant] += self._cost(tenant, fresh, drawn)

    def starts(self, sequences: Iterable[Sequence]) -> list[float]:
        """Where its tenant's counter will stand when each one's turn comes, if each tenant's own
        are served in this order: requests of several tenants merge by it (start-time fair
        queueing: Goyal et al., SIGCOMM 1996)."""
        counters, starts = dict(self._counters), []
        for sequence in sequences:
            tenant = sequence.request.tenant
            starts.append(counters[tenant])
            unread = max(0, len(sequence.request.prompt_token_ids) - sequence.served)
            counters[tenant] += self._cost(tenant, unread, 0)
        return starts

    def owed(self, tenant: str, other: str, seats: Mapping[str, int]) -> bool:
        """Whether `tenant` should have one of the seats of `other`: even with one more it has no
        more of them for its weight than the other with one less."""
        if tenant == other:
            return False
        mine = (seats.get(tenant, 0) + 1) / self._weight(tenant)
        return mine <= (seats.get(other, 0) - 1) / self._weight(other)

    def _cost(self, tenant: str, prompt_tokens: int, output_tokens: int) -> float:
        return (PROMPT_COST * prompt_tokens + OUTPUT_COST * output_tokens) / self._weight(tenant)

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)

    def _forget_paid(self) -> None:
        """Drop counters of tenants away that would be lifted anyway."""
        active = [self._counters[tenant] for tenant in self._alive]
        paid = min(active, default=self._floor)
        self._counters = {
            tenant: counter
            for tenant, counter in self._counters.items()
            if tenant in self._alive or counter > paid
        }
