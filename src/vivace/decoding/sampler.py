"""Logits to tokens: one per sampling sequence of a step, each from its own row alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vivace.core.errors import RequestError, VivaceError
from vivace.core.step import Picked, ScheduledSequence, Scored, Step
from vivace.decoding.adjust import Row, adjusted
from vivace.decoding.bad_words import BadWords, Encode
from vivace.decoding.constraints import Allowed, Constraints
from vivace.decoding.draw import limits
from vivace.decoding.logprobs import raw_logprobs
from vivace.decoding.native_draw import fastest_draw
from vivace.decoding.random_stream import uniform


class InvalidLogitsError(VivaceError):
    """The model gave no usable logits for some requests; the others' rows are sound.

    Attributes:
        request_ids: the requests to fail.
    """

    code = "corrupted_output"

    def __init__(self, request_ids: Sequence[str]) -> None:
        super().__init__(
            "The model's output is not a number for this request; try dtype float32, "
            "or check the checkpoint."
        )
        self.request_ids = tuple(request_ids)


class NothingAllowedError(RequestError):
    """A request rules out every token that the model offers; the others are unharmed.

    Attributes:
        request_ids: of that request alone.
    """

    def __init__(self, sequence: ScheduledSequence) -> None:
        params = sequence.request.params
        param = "min_tokens" if params.structured_outputs is None else "structured_outputs"
        param = param if params.allowed_token_ids is None else "allowed_token_ids"
        super().__init__("No token is left to draw; loosen what the request rules out.", param)
        self.request_ids = (sequence.request.request_id,)


class Sampler:
    """Picks tokens. It keeps no state: a pick depends on its row, its request and its position.

    Args:
        eos_token_ids: tokens that end an answer.
        constraints: of the requests that have some; None where none can.
        default_seed: for requests without a seed.
        decode: a token's own text, for logprobs.
        encode: a text's token ids without special tokens, for bad words.
    """

    def __init__(
        self,
        eos_token_ids: tuple[int, ...],
        default_seed: int = 0,
        decode: Callable[[int], str] | None = None,
        encode: Encode | None = None,
        constraints: Constraints | None = None,
    ) -> None:
        self._eos_token_ids = eos_token_ids
        self.constraints = constraints or Constraints()
        self._default_seed = default_seed
        self._decode = decode
        self._bad_words = BadWords(encode)
        self._draw = fastest_draw()

    def pick(self, logits: NDArray[np.float32], step: Step) -> list[Picked]:
        """One token for each of `step.sampling`, in order.

        Args:
            logits: [R, vocab], first a row for each of `step.sampling`.

        Raises:
            InvalidLogitsError: some rows hold NaN, +inf, or no token that may be picked. Nothing
                was changed: the step can be picked again without them.
            NothingAllowedError: a request rules out every token; likewise.
            ConstraintError: a request's grammar cannot go on; likewise.
        """
        sequences = step.sampling
        logits = logits[: len(sequences)]
        greedy = logits.argmax(axis=1)  # NaN counts as the largest, so `best` shows it
        best = logits[np.arange(len(sequences)), greedy]
        if not np.isfinite(best).all():
            bad = np.flatnonzero(~np.isfinite(best))
            raise InvalidLogitsError([sequences[row].request.request_id for row in bad])
        rows = zip(logits, sequences, greedy.tolist(), strict=True)
        return [self._pick(row, sequence, token_id) for row, sequence, token_id in rows]

    def score(self, logits: NDArray[np.float32], step: Step) -> list[Scored]:
        """Log-probabilities of prompt tokens, for each of `step.generating` that reads some.

        Args:
            logits: [R, vocab], a row for each position read, behind those of `step.sampling`.

        Raises:
            InvalidLogitsError: as `pick`.
        """
        row = len(step.sampling)
        scored = []
        for sequence in step.generating:
            if sequence.reads:
                rows = logits[row : row + len(sequence.reads)]
                scored.append(self._score(rows, sequence))
                row += len(rows)
        return scored

    def _score(self, rows: NDArray[np.float32], sequence: ScheduledSequence) -> Scored:
        request = sequence.request
        if not np.isfinite(rows.max(axis=1)).all():
            raise InvalidLogitsError([request.request_id])
        count = request.params.prompt_logprobs or 0
        entries = [
            raw_logprobs(row, sequence.token_ids[position + 1], count, self._decode)
            for row, position in zip(rows, sequence.reads, strict=True)
        ]
        return Scored(request.request_id, tuple(entries))

    def _pick(self, row: Row, sequence: ScheduledSequence, greedy: int) -> Picked:
        request = sequence.request
        allowed = self.constraints.allowed(sequence)
        completes = allowed is not None and allowed.complete
        token_id = (
            self._eos_token_ids[0] if completes else self._choose(row, sequence, greedy, allowed)
        )
        if request.params.logprobs is None:
            return Picked(request.request_id, token_id, completes=completes)
        logprobs = raw_logprobs(row, token_id, request.params.logprobs, self._decode)
        return Picked(request.request_id, token_id, logprobs, completes)

    def _choose(
        self, row: Row, sequence: ScheduledSequence, greedy: int, allowed: Allowed | None
    ) -> int:
        params = sequence.request.params
        if allowed is not None:
            row = np.where(allowed.tokens, row, np.float32(-np.inf))
        logits = adjusted(row, sequence, self._banned(sequence))
        if logits is not row or allowed is not None:
            greedy = int(logits.argmax())
            if not np.isfinite(logits[greedy]):
                raise NothingAllowedError(sequence)
        if params.greedy:
            return greedy
        place = uniform(sequence.request, len(sequence.token_ids), self._default_seed)
        return self._draw(logits, limits(params, float(logits[greedy]), logits.size), place)

    def _banned(self, sequence: ScheduledSequence) -> list[int]:
        """What would end the answer before its time, or complete a bad word."""
        params, start = sequence.request.params, sequence.num_prompt_tokens
        banned: list[int] = []
        if len(sequence.token_ids) - start < params.min_tokens:
            banned += {*self._eos_token_ids, *params.stop_token_ids}
        if params.ignore_eos and params.structured_outputs is not None:
            banned += self._eos_token_ids  # nothing could follow it
        if params.bad_words:
            output = list(sequence.token_ids[start:])
            banned += self._bad_words.banned(params.bad_words, output)
        return banned
