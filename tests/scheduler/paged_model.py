"""A model of integers that sees only what the pages hold, and a loop that drives a scheduler.

The state at a position is a hash of its token and of the states that it sees in each KV group; it
is written to that position's page slot. So a page wrongly shared, freed too early or passed by the
wrong window changes every later token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from vivace.cache.blocks import KVGroup, KVManager
from vivace.core.request import Delta, FinishReason, Logprob, Request
from vivace.core.step import Advance, Picked, Pooled, ScheduledSequence, Scored, Step
from vivace.scheduler.scheduler import PolicyConfig, Scheduler, SchedulerConfig

PAGE = 16
VOCAB = 50
END = 0
Windows = Sequence[int | None]


def _seen(request: Request, window: int | None, position: int) -> tuple[int, ...]:
    """The positions before its own that a row sees."""
    sight = request.sight.within(window)
    first = sight.first_recent(position)
    return (*range(min(sight.sinks, first)), *range(first, position))


def pick(state: int) -> int:
    return state % VOCAB


def ending(request: Request, num_output: int, token: int) -> FinishReason | None:
    if token == END and not request.params.ignore_eos:
        return "stop"
    return "length" if num_output == request.params.max_tokens else None


def alone(request: Request, windows: Windows) -> list[int]:
    """What the request generates, computed without pages, chunks or company."""
    tokens = list(request.prompt_token_ids)
    states: list[int] = []
    prompt = len(tokens)
    while True:
        for position in range(len(states), len(tokens)):
            seen = [
                tuple(states[before] for before in _seen(request, window, position))
                for window in windows
            ]
            states.append(hash((tokens[position], *seen)))
        tokens.append(pick(states[-1]))
        if ending(request, len(tokens) - prompt, tokens[-1]):
            return tokens[prompt:]


def scored(step: Step) -> list[Scored]:
    """Each prompt token that the step scores, with a log-probability of no meaning."""
    return [
        Scored(
            one.request.request_id,
            tuple({one.token_ids[place + 1]: Logprob(-1.0, 1)} for place in one.reads),
        )
        for one in step.generating
        if one.reads
    ]


def pooled(step: Step) -> list[Pooled]:
    """A vector of no meaning for each sequence that ends with one."""
    return [
        Pooled(one.request.request_id, (1.0,))
        for one in step.pooling
        if one.start + one.count == len(one.token_ids)
    ]


class PagedModel:
    """Runs steps against page memory, as a backend would."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows
        self._slots: dict[tuple[int, int, int], int] = {}

    def run(self, step: Step) -> list[int]:
        """A token for each sampling sequence."""
        last = [self._compute(sequence) for sequence in step.sequences]
        return [
            pick(state)
            for state, sequence in zip(last, step.sequences, strict=True)
            if sequence.samples
        ]

    def _compute(self, sequence: ScheduledSequence) -> int:
        state, end = 0, sequence.start + sequence.count
        assert sequence.request.sight.step_end(sequence.start, end) == end
        for position in range(sequence.start, sequence.start + sequence.count):
            seen = [
                tuple(
                    self._slots[group, table[before // PAGE], before % PAGE]
                    for before in _seen(sequence.request, window, position)
                )
                for group, (window, table) in enumerate(
                    zip(self._windows, sequence.block_tables, strict=True)
                )
            ]
            state = hash((sequence.token_ids[position], *seen))
            for group, table in enumerate(sequence.block_tables):
                self._slots[group, table[position // PAGE], position % PAGE] = state
        return state


class Engine:
    """A scheduler, its pages and a `PagedModel`; checks what must hold in every step.

    Args:
        groups: the KV groups.
        config: the limits of a step.
        sharing: whether prefixes are shared.
        policies: whose turn it is.

    Attributes:
        now: the clock; each step takes a second.
        scored: per request the prompt tokens whose log-probabilities came, in order.
        read: per request to be pooled the positions that it read.
    """

    def __init__(
        self,
        groups: Sequence[KVGroup],
        config: SchedulerConfig,
        sharing: bool = True,
        policies: PolicyConfig | None = None,
    ) -> None:
        self.now = 0.0
        self.kv = KVManager(groups, PAGE, sharing)
        self.scheduler = Scheduler(config, self.kv, policies, clock=lambda: self.now)
        self.output: dict[str, list[int]] = {}
        self.last: dict[str, Delta] = {}
        self.scored: dict[str, list[int]] = {}
        self.read: dict[str, list[int]] = {}
        self.steps = 0
        self.computed = 0
        self._config = config
        self._model = PagedModel([group.window for group in groups])

    def add(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.scheduler.add(request)
            self.output[request.request_id] = []
            self.scored[request.request_id] = []
            self.read[request.request_id] = []

    def drop_late(self) -> list[Delta]:
        deltas = self.scheduler.drop_late()
        self.last.update((delta.request_id, delta) for delta in deltas)
        return deltas

    def schedule(self) -> Step:
        step = self.scheduler.schedule()
        assert step.sequences
        assert step.num_tokens <= self._config.max_num_batched_tokens
        assert len(step.sequences) <= self._config.max_num_seqs
        for sequence in step.sequences:
            assert 1 <= sequence.count <= (self._config.max_prefill_chunk or sequence.count)
            ends = sequence.start + sequence.count == len(sequence.token_ids)
            assert sequence.samples == (ends and sequence.request.pooling is None)
            computed = range(sequence.start, sequence.start + sequence.count)
            assert set(sequence.reads) <= set(computed)
        beside = step.num_logit_rows - len(step.generating)
        assert beside <= self._config.max_scoring_rows
        return step

    def finish(self, step: Step, between: Callable[[], None] = lambda: None) -> list[Delta]:
        """Run and update; `between` stands for what callers do meanwhile."""
        tokens = self._model.run(step)
        picked = [
            Picked(sequence.request.request_id, token)
            for sequence, token in zip(step.sampling, tokens, strict=True)
        ]
        advances = [
            Advance(
                one.request_id,
                finish_reason=ending(
                    sequence.request,
                    len(sequence.token_ids) - sequence.num_prompt_tokens + 1,
                    one.token_id,
                ),
            )
            for one, sequence in zip(picked, step.sampling, strict=True)
        ]
        between()
        deltas = self.scheduler.update(step, picked, advances, scored(step), pooled(step))
        for delta in deltas:
            self.output[delta.request_id].extend(delta.token_ids)
            for entry in delta.prompt_logprobs or ():
                self.scored[delta.request_id].extend(entry)
            self.last[delta.request_id] = delta
        for sequence in step.pooling:
            self.read[sequence.request.request_id].extend(sequence.reads)
        self.steps += 1
        self.now += 1.0
        self.computed += step.num_tokens
        return deltas

    def step(self) -> list[Delta]:
        return self.finish(self.schedule())

    def run(self, max_steps: int = 10_000) -> None:
        """Until there is no work, checking the books now and then and at the end."""
        while self.scheduler.has_work:
            assert self.steps < max_steps, "no progress"
            self.step()
            if self.steps % 16 == 0:
                self.scheduler.check_integrity()
        self.scheduler.check_integrity()
        assert self.kv.pages_used == 0
