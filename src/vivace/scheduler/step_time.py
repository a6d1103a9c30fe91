"""How long a step takes, learned from the steps that ran.

A step's time is a sum: a constant, a function of its tokens, and so much for each sequence, row of
logits and attended position. The function of tokens is not linear: few tokens cost what reading
the weights costs, many cost their arithmetic, and between the two lie a kink and the tiles of the
kernels. So it is any growing function that is linear between half octaves. No part can be
negative, hence no prediction is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vivace.core.step import ScheduledSequence, Step
from vivace.scheduler.nonnegative import nonnegative_least_squares

Vector = NDArray[np.float64]

KNOTS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384], np.float64)
WIDTHS = np.diff(KNOTS, append=np.inf)
NUM_FEATURES = len(KNOTS) + 5  # 1, tokens, sequences, decode and prefill context, logit rows

KEPT_PER_KIND = 8  # steps of one kind: many alike must not push out the few that differ
MAX_KINDS = 256
REFIT_AFTER = 32  # steps
SETTLED_AFTER = 8  # steps
SMOOTHNESS = 0.1  # how strongly neighbouring slopes agree, as the relative error of one step
RIDGE = 1e-4
HUBER = 1.345  # standard deviations within which an error counts in full
DEVIATION = 1.4826  # from a median of absolute errors to a standard deviation
LEAST_DEVIATION = 0.02  # what no fit may claim: else the first step of a new kind is an outlier
SURE = 0.9  # of the steps that the margin covers
TRUSTED = 2.0  # times that an expectation may be off and still be a unit


@dataclass(frozen=True)
class StepShape:
    """What a step's time depends on. A sequence with one token decodes, any other is prefill.

    Positions outside of a layer's window count too: a model learns a lower cost for each.

    Attributes:
        tokens: computed in the step.
        sequences: that have some.
        decodes: those of them with one.
        decode_context: positions that the decodes see.
        prefill_context: positions that the other rows see, summed over the rows.
        logit_rows: rows that draw a token, or score one.
    """

    tokens: int
    sequences: int
    decodes: int
    decode_context: int
    prefill_context: int
    logit_rows: int

    @staticmethod
    def of(step: Step) -> StepShape:
        decodes = [one for one in step.sequences if one.count == 1]
        return StepShape(
            tokens=step.num_tokens,
            sequences=len(step.sequences),
            decodes=len(decodes),
            decode_context=sum(_seen(one) for one in decodes),
            prefill_context=sum(_seen(one) for one in step.sequences if one.count > 1),
            logit_rows=step.num_logit_rows,
        )

    @property
    def prefill_tokens(self) -> int:
        return self.tokens - self.decodes


def attended(start: int, count: int, reach: int | None = None) -> int:
    """Positions that rows [start, start + count) of a sequence see, summed over the rows; `reach`
    of them at most for each row."""
    whole = count if reach is None else min(max(reach - start, 0), count)
    return whole * start + whole * (whole + 1) // 2 + (count - whole) * (reach or 0)


def _seen(sequence: ScheduledSequence) -> int:
    sight, start = sequence.request.sight, sequence.start
    if sight.reach is not None:
        return attended(start, sequence.count, sight.reach)
    return attended(start - sight.first_recent(start), sequence.count)


@dataclass(frozen=True)
class StepTimes:
    """A fitted model: the seconds of each feature."""

    coefficients: tuple[float, ...]

    def predict(self, shape: StepShape) -> float:
        """Seconds, never negative."""
        return float(_features(shape) @ np.asarray(self.coefficients))


def _guess() -> StepTimes:
    """What is assumed before the first step: 10 ms, and 1 ms for each token."""
    coefficients = np.zeros(NUM_FEATURES)
    coefficients[0], coefficients[1 : len(KNOTS) + 1] = 0.010, 0.001
    return StepTimes(tuple(coefficients))


GUESS = _guess()


class StepTimeModel:
    """Follows the engine: give it every step, ask it for any.

    The last steps of each kind (octaves of tokens, decodes and contexts) are kept, and fitted by
    non-negative least squares of the relative error. A step that took far longer than the last
    fit says, as when another program took a core, counts less (Huber, 1964); if all steps become
    slower, the error that is usual grows with them and they count in full. Fitting is put off
    until somebody asks.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, ...], deque[tuple[Vector, float]]] = {}
        self.forget()

    def forget(self) -> None:
        """Begin anew: the steps so far were not what is to be known."""
        self._kinds.clear()
        self._times = GUESS
        self._margin = 1.0
        self._num_observed = 0
        self._refit_at = 1
        self._latest = StepShape(0, 0, 0, 0, 0, 0)

    @property
    def settled(self) -> bool:
        """Whether predictions rest on more than a first few steps."""
        return self._num_observed >= SETTLED_AFTER

    @property
    def times(self) -> StepTimes:
        """The fit to the steps so far."""
        self._follow()
        return self._times

    @property
    def margin(self) -> float:
        """What nine of ten steps took at most, over what the fit says of them; at least 1."""
        self._follow()
        return self._margin

    def observe(self, shape: StepShape, seconds: float) -> None:
        """A step of that shape took so long."""
        if not shape.tokens or seconds <= 0:
            return
        self._latest = shape
        self._num_observed += 1
        kind = _kind(shape)
        steps = self._kinds.pop(kind, None)
        if steps is None:  # something new is worth knowing at once
            steps = deque(maxlen=KEPT_PER_KIND)
            self._refit_at = self._num_observed
        steps.append((_features(shape), seconds))
        self._kinds[kind] = steps  # the last in order, and so the last to be forgotten
        if len(self._kinds) > MAX_KINDS:
            del self._kinds[next(iter(self._kinds))]

    def predict(self, shape: StepShape) -> float:
        """Seconds that a step of that shape will take."""
        return self.times.predict(shape)

    def beside(self, decoding: int, prefill: int) -> StepShape:
        """The next step with so much prefill: decodes see what they saw, and a prompt goes on."""
        latest = self._latest
        context = latest.decode_context / latest.decodes if latest.decodes else 0.0
        start = 0
        if latest.prefill_tokens:  # where the rows of the last chunk stood, and half of it on
            middle = latest.prefill_context / latest.prefill_tokens
            start = int(middle + latest.prefill_tokens / 2)
        return StepShape(
            tokens=decoding + prefill,
            sequences=decoding + (prefill > 0),
            decodes=decoding,
            decode_context=int(context * decoding),
            prefill_context=attended(start, prefill),
            logit_rows=decoding,
        )

    @property
    def seconds_per_prompt_token(self) -> float:
        """What a token costs in a full step of prefill at the start of a prompt."""
        full = int(KNOTS[-1])
        return self.predict(StepShape(full, 1, 0, 0, attended(0, full), 0)) / full

    def refine(self, rounds: int = 5) -> StepTimes:
        """Fit until the steps that count less are settled, for whoever has the time."""
        for _ in range(rounds if self._num_observed else 0):
            self._fit()
        return self._times

    def ratios(self) -> list[float]:
        """What each kept step took, over what the fit says of it."""
        rows, seconds = self._kept()
        return [] if not len(rows) else (seconds / self._expected(rows)).tolist()

    def _follow(self) -> None:
        if self._num_observed >= self._refit_at:
            self._fit()

    def _kept(self) -> tuple[Vector, Vector]:
        steps = [step for kind in self._kinds.values() for step in kind]
        return np.array([row for row, _ in steps]), np.array([seconds for _, seconds in steps])

    def _expected(self, rows: Vector) -> Vector:
        return np.asarray(np.maximum(rows @ np.asarray(self._times.coefficients), 1e-9))

    def _fit(self) -> None:
        rows, seconds = self._kept()
        if self._times is GUESS:
            self._times = fit(rows, seconds, seconds, np.ones(len(rows)))
        else:
            expected = self._expected(rows)
            units = np.clip(expected, seconds / TRUSTED, seconds * TRUSTED)
            weights = _weights(seconds / expected - 1)
            self._times = fit(rows, seconds, units, weights, self._times)
        ratios = seconds / self._expected(rows)
        self._margin = max(1.0, float(np.quantile(ratios, SURE)))
        self._refit_at = self._num_observed + REFIT_AFTER


def fit(
    rows: Vector,
    seconds: Vector,
    units: Vector,
    weights: Vector,
    before: StepTimes | None = None,
) -> StepTimes:
    """The times with the least weighted squares of errors, each in a unit of its own.

    Args:
        rows: features of the steps [steps, features].
        seconds: of each step, above 0.
        units: seconds that an error of 1 stands for: what the step was expected to take, so that
            errors are relative and a mean stays a mean.
        weights: of each step.
        before: the last fit, which is likely to be near: this one takes less time then.
    """
    relative = rows / units[:, None]
    scale = relative.max(axis=0)
    slopes = slice(1, len(KNOTS) + 1)
    scale[slopes] = KNOTS / _typical(1 + rows[:, slopes].sum(axis=1), seconds)
    scale[scale == 0] = 1.0
    scaled = relative / scale
    gram = scaled.T @ (scaled * weights[:, None])
    gram[slopes, slopes] += _smoothness(scale[slopes])
    gram += RIDGE * np.eye(len(gram))
    target = scaled.T @ (weights * seconds / units)
    positive = None if before is None else np.asarray(before.coefficients) > 0
    found = nonnegative_least_squares(gram, target, positive)
    return StepTimes(tuple((found / scale).tolist()))


def _typical(tokens: Vector, seconds: Vector) -> Vector:
    """About what a step of each knot's tokens takes, whether such a step was seen or not."""
    order = np.argsort(tokens)
    return np.interp(KNOTS, tokens[order], seconds[order])


def _smoothness(scale: Vector) -> Vector:
    """Penalty [slopes, slopes] on differences of neighbouring slopes, each in the unit `scale`.

    It decides where no step was seen, and beyond the largest one.
    """
    differences = np.diff(np.diag(1 / scale), axis=0) * scale[1:, None]
    return np.asarray(SMOOTHNESS**2 * differences.T @ differences)


def _weights(errors: Vector) -> Vector:
    """1 for usual errors, less for large ones."""
    deviation = max(DEVIATION * float(np.median(np.abs(errors))), LEAST_DEVIATION)
    return np.asarray(1 / np.maximum(1.0, np.abs(errors) / (HUBER * deviation)))


def _features(shape: StepShape) -> Vector:
    """float64 [NUM_FEATURES]; tokens appear as what of them lies between each two knots."""
    row = np.empty(NUM_FEATURES)
    row[0] = 1.0
    row[1 : len(KNOTS) + 1] = np.minimum(np.maximum(shape.tokens - KNOTS, 0.0), WIDTHS)
    row[len(KNOTS) + 1 :] = (
        shape.sequences,
        shape.logit_rows,
        shape.decode_context,
        shape.prefill_context,
    )
    return row


def _kind(shape: StepShape) -> tuple[int, ...]:
    counts = (shape.tokens, shape.decodes, shape.decode_context, shape.prefill_context)
    return tuple(count.bit_length() for count in counts)
