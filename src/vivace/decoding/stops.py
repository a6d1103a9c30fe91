"""Picked tokens to text, and the decision when an answer ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vivace.core.request import FinishReason, Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Advance, Picked, ScheduledSequence
from vivace.text.detokenizer import IncrementalDetokenizer
from vivace.text.held import num_held
from vivace.text.tokenizer import Tokenizer


@dataclass
class _Answer:
    """One request's text in the making; `held` may yet become a stop string."""

    params: SamplingParams
    detokenizer: IncrementalDetokenizer | None
    held: str = ""


@dataclass(frozen=True)
class _Ending:
    finish_reason: FinishReason
    stop_reason: int | str | None = None


class OutputText:
    """The text of every request in the engine.

    Args:
        tokenizer: None gives no text, and stop strings cannot be found.
        eos_token_ids: tokens that end an answer unless it ignores them.
    """

    def __init__(self, tokenizer: Tokenizer | None, eos_token_ids: tuple[int, ...]) -> None:
        self._tokenizer = tokenizer
        self._eos_token_ids = frozenset(eos_token_ids)
        self._answers: dict[str, _Answer] = {}

    def add(self, request: Request) -> None:
        """Begin a request's text; adding it again starts it anew."""
        detokenizer = None
        if self._tokenizer is not None:
            skip = request.params.skip_special_tokens
            detokenizer = IncrementalDetokenizer(self._tokenizer, skip_special_tokens=skip)
        self._answers[request.request_id] = _Answer(request.params, detokenizer)

    def remove(self, request_id: str) -> None:
        """Forget a request, known or not."""
        self._answers.pop(request_id, None)

    def finish(self, request_id: str) -> str:
        """Forget a request that is ended from outside; the text that was held back."""
        answer = self._answers.pop(request_id)
        return answer.held + _decode(answer, [], last=True)

    def advance(self, sequence: ScheduledSequence, picked: Picked) -> Advance:
        """What the token picked for a sequence adds, and whether it ends it.

        A request that ends here stays known until `remove`.
        """
        request_id, token_id = sequence.request.request_id, picked.token_id
        answer = self._answers[request_id]
        num_output = len(sequence.token_ids) - sequence.num_prompt_tokens + 1
        may_stop = num_output > answer.params.min_tokens
        ending = self._end_token(answer.params, token_id) if may_stop else None
        if picked.completes:
            ending = _Ending("stop")
        shows = ending is None or answer.params.include_stop_str_in_output
        if ending is None and num_output == answer.params.max_tokens:
            ending = _Ending("length")
        text = _decode(answer, [token_id] if shows else [], last=ending is not None)
        if may_stop and (match := first_stop(answer.held, text, answer.params.stop)):
            return _cut(request_id, answer, text, match)
        text = answer.held + text
        if ending:
            return Advance(request_id, text, ending.finish_reason, ending.stop_reason)
        shown = len(text) - num_held(text, answer.params.stop)
        answer.held = text[shown:]
        return Advance(request_id, text[:shown])

    def _end_token(self, params: SamplingParams, token_id: int) -> _Ending | None:
        if token_id in self._eos_token_ids and not params.ignore_eos:
            return _Ending("stop")
        return _Ending("stop", token_id) if token_id in params.stop_token_ids else None


@dataclass(frozen=True)
class StopMatch:
    """A stop string at [start, end) of held + new text."""

    stop: str
    start: int
    end: int


def first_stop(held: str, new: str, stops: Sequence[str]) -> StopMatch | None:
    """The stop string that is complete first; the longest of those complete at once.

    It ends in `new`, so that what is found does not depend on where tokens part the text.
    """
    text = held + new
    matches = []
    for stop in stops:
        start = text.find(stop, max(0, len(held) + 1 - len(stop)))
        if start >= 0:
            matches.append(StopMatch(stop, start, start + len(stop)))
    return min(matches, key=lambda match: (match.end, match.start), default=None)


def _decode(answer: _Answer, token_ids: Sequence[int], last: bool) -> str:
    if answer.detokenizer is None:
        return ""
    text = "".join(map(answer.detokenizer.push, token_ids))
    return text + answer.detokenizer.flush() if last else text


def _cut(request_id: str, answer: _Answer, new: str, match: StopMatch) -> Advance:
    text = answer.held + new
    end = match.end if answer.params.include_stop_str_in_output else match.start
    return Advance(request_id, text[:end], "stop", match.stop)
