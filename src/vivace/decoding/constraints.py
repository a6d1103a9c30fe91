"""Which tokens a constraint lets an answer go on with.

A request's matcher follows the tokens that the scheduler knows of it, and nothing else: what is
preempted, found in the cache or computed again after a failed step is where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import OverloadedError, RequestError, VivaceError
from vivace.core.request import Request
from vivace.core.step import ScheduledSequence
from vivace.core.structured import PARAM, StructuredOutputsParams
from vivace.decoding.compiling import Compiler

if TYPE_CHECKING:
    from llguidance import LLExecutor, LLMatcher

_WORD = 32  # tokens in a word of a mask


class ConstraintError(RequestError):
    """The grammar of one request cannot go on; the others are unharmed.

    Attributes:
        request_ids: of that request alone.
    """

    def __init__(self, request_id: str, why: str) -> None:
        super().__init__(f"{PARAM}: {why.rstrip('.')}.", PARAM)
        self.request_ids = (request_id,)


@dataclass(frozen=True)
class Allowed:
    """What may follow.

    Attributes:
        tokens: bool [vocab].
        complete: whether that is nothing but an end token.
    """

    tokens: NDArray[np.bool_]
    complete: bool


@dataclass
class _Followed:
    """A request's matcher, and the tokens of its answer that it has taken."""

    params: StructuredOutputsParams
    matcher: LLMatcher
    taken: int = 0


class Constraints:
    """The constraints of all requests in the engine.

    Args:
        compiler: None where the model has no tokenizer or no end token: no request has any then.
        vocab_size: columns of the logits.
        eos_token_ids: tokens that end an answer.
        threads: that compute masks.
    """

    def __init__(
        self,
        compiler: Compiler | None = None,
        vocab_size: int = 0,
        eos_token_ids: Sequence[int] = (),
        threads: int = 1,
    ) -> None:
        self._compiler = compiler
        self._threads = threads
        self._vocab_size = vocab_size
        self._waiting: dict[str, Request] = {}  # in order of arrival
        self._followed: dict[str, _Followed] = {}
        ends = np.zeros(-(-vocab_size // _WORD) * _WORD, np.bool_)
        ends[list(eos_token_ids)] = True
        self._not_ends = ~np.packbits(ends, bitorder="little").view(np.int32)

    @property
    def num_waiting(self) -> int:
        """Requests whose grammar is being compiled."""
        return len(self._waiting)

    @property
    def waiting_tokens(self) -> list[int]:
        """Of the prompt of each of them."""
        return [len(request.prompt_token_ids) for request in self._waiting.values()]

    def add(self, request: Request) -> bool:
        """Whether it can run now. Otherwise its grammar is compiled, and `ready` will have it.

        Raises:
            RequestError: its id is in use.
        """
        if request.request_id in self._waiting or request.request_id in self._followed:
            raise RequestError(f"request_id {request.request_id!r} is in use.", "request_id")
        params = request.params.structured_outputs
        if params is None:
            return True
        assert self._compiler is not None  # admission saw to it
        self._compiler.begin(params)
        self._waiting[request.request_id] = request
        return False

    def ready(self) -> list[tuple[Request, VivaceError | None]]:
        """Requests whose grammar is there, or why it will never be; each once."""
        found: list[tuple[Request, VivaceError | None]] = []
        for request in list(self._waiting.values()):
            try:
                if not self._follow(request):
                    continue
                found.append((request, None))
            except (OverloadedError, RequestError) as error:
                found.append((request, error))
            del self._waiting[request.request_id]
        return found

    def drop_late(self, now: float) -> list[str]:
        """Forget the requests whose deadline has passed before their grammar was there, and that
        asked for it; their ids."""
        late = [
            name
            for name, request in self._waiting.items()
            if request.drop_if_late and request.deadline is not None and now > request.deadline
        ]
        for name in late:
            del self._waiting[name]
        return late

    def wait(self, seconds: float) -> None:
        """Until one more may be ready, but no longer than that."""
        assert self._compiler is not None
        given = (request.params.structured_outputs for request in self._waiting.values())
        self._compiler.wait([one for one in given if one is not None], seconds)

    def remove(self, request_id: str) -> None:
        """Forget a request, known or not."""
        self._waiting.pop(request_id, None)
        self._followed.pop(request_id, None)

    def close(self) -> None:
        if self._compiler is not None:
            self._compiler.close()

    def allowed(self, sequences: Sequence[ScheduledSequence]) -> list[Allowed | None]:
        """What may follow the known tokens of each sequence; None where everything may. Where
        several are constrained, their masks are computed in parallel.

        Raises:
            ConstraintError: a grammar takes too much to go on, or did not take a token.
        """
        found: list[Allowed | None] = [None] * len(sequences)
        names = [sequence.request.request_id for sequence in sequences]
        places = [place for place, name in enumerate(names) if name in self._followed]
        if not places:
            return found
        matchers = [self._advanced(sequences[place]) for place in places]
        masks = self._computed(matchers)
        bits: NDArray[np.bool_] = np.unpackbits(
            masks.view(np.uint8), axis=1, count=self._vocab_size, bitorder="little"
        ).view(np.bool_)
        only_ends = ~(masks & self._not_ends).any(axis=1)
        for row, place in enumerate(places):
            if matchers[row].is_error():
                self._give_up(names[place])
            found[place] = Allowed(bits[row], bool(only_ends[row]))
        return found

    def _advanced(self, sequence: ScheduledSequence) -> LLMatcher:
        """Its matcher, behind all known tokens."""
        followed = self._followed[sequence.request.request_id]
        start = sequence.num_prompt_tokens + followed.taken
        followed.matcher.consume_tokens(list(sequence.token_ids[start:]))
        followed.taken = len(sequence.token_ids) - sequence.num_prompt_tokens
        return followed.matcher

    def _computed(self, matchers: Sequence[LLMatcher]) -> NDArray[np.int32]:
        """Their masks, a bit for each token: [matchers, words]."""
        words = self._not_ends.size
        masks = np.zeros((len(matchers), words), np.int32)
        numbered = [(matcher, row) for row, matcher in enumerate(matchers)]
        if len(matchers) == 1 or self._executor is None:
            for matcher, row in numbered:
                matcher.unsafe_compute_mask_ptr(masks[row].ctypes.data, words * masks.itemsize)
        else:
            self._executor.unsafe_compute_mask_ptr(
                numbered, masks.ctypes.data, words * masks.itemsize, len(matchers)
            )
        return masks

    @cached_property
    def _executor(self) -> LLExecutor | None:
        """Made when first needed; None where there is one thread only."""
        from llguidance import LLExecutor

        return LLExecutor(self._threads) if self._threads > 1 else None

    def _follow(self, request: Request) -> bool:
        params = request.params.structured_outputs
        assert params is not None
        assert self._compiler is not None
        matcher = self._compiler.matcher(params)
        if matcher is None:
            return False
        self._followed[request.request_id] = _Followed(params, matcher)
        return True

    def _give_up(self, request_id: str) -> None:
        assert self._compiler is not None
        followed = self._followed[request_id]
        self._compiler.forget(followed.params)
        raise ConstraintError(request_id, " ".join(followed.matcher.get_error().split()))
