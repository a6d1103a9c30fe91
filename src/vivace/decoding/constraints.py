"""Which tokens a constraint lets an answer go on with.

A request's matcher follows the tokens that the scheduler knows of it, and nothing else: what is
preempted, found in the cache or computed again after a failed step is where it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import OverloadedError, RequestError, VivaceError
from vivace.core.request import Request
from vivace.core.step import ScheduledSequence
from vivace.core.structured import PARAM, StructuredOutputsParams
from vivace.decoding.compiling import Compiler

if TYPE_CHECKING:
    from llguidance import LLMatcher

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
    """

    def __init__(
        self,
        compiler: Compiler | None = None,
        vocab_size: int = 0,
        eos_token_ids: Sequence[int] = (),
    ) -> None:
        self._compiler = compiler
        self._vocab_size = vocab_size
        self._waiting: dict[str, Request] = {}  # in order of arrival
        self._followed: dict[str, _Followed] = {}
        self._mask = np.zeros(-(-vocab_size // _WORD), np.int32)
        ends = np.zeros(self._mask.size * _WORD, np.bool_)
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

    def allowed(self, sequence: ScheduledSequence) -> Allowed | None:
        """What may follow the sequence's known tokens; None where everything may.

        Raises:
            ConstraintError: the grammar takes too much to go on, or did not take a token.
        """
        followed = self._followed.get(sequence.request.request_id)
        if followed is None:
            return None
        known = len(sequence.token_ids)
        start = sequence.num_prompt_tokens + followed.taken
        followed.matcher.consume_tokens(list(sequence.token_ids[start:known]))
        followed.taken = known - sequence.num_prompt_tokens
        followed.matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if followed.matcher.is_error():
            self._give_up(sequence.request.request_id, followed)
        bits = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._vocab_size)
        complete = not (self._mask & self._not_ends).any()
        return Allowed(bits.view(np.bool_), complete)

    def _follow(self, request: Request) -> bool:
        params = request.params.structured_outputs
        assert params is not None
        assert self._compiler is not None
        matcher = self._compiler.matcher(params)
        if matcher is None:
            return False
        self._followed[request.request_id] = _Followed(params, matcher)
        return True

    def _give_up(self, request_id: str, followed: _Followed) -> None:
        assert self._compiler is not None
        self._compiler.forget(followed.params)
        raise ConstraintError(request_id, " ".join(followed.matcher.get_error().split()))
