"""Steps and lows for blocks of ggml's types, by weighted least squares.

In the spirit of llama.cpp's own searches: many ranges are tried for each group; for the codes that
a range gives, the best step (and low) follow in closed form, and the least error wins. Then what
the type keeps of them is rounded, its neighbours are tried, and a block's float16 are fitted again
to the codes that came out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from vivace.formats.gguf.encode import BlockGrid, Floats, GroupedType, Integers
from vivace.formats.qtensor import Array

_SHIFTS = np.linspace(-0.9, 0.9, 19, dtype=np.float32)  # of codes, beyond the last: a range's end
_ROUNDS = 2  # codes and steps in turn
_AT_ONCE = 2**18  # values: their temporaries stay in a cache
_LARGEST = np.float32(65504)  # of float16
_SINGULAR = np.float32(1e-6)  # below, float32 has no digits left to solve with

_Moments: TypeAlias = tuple[Floats, Floats, Floats, Floats, Floats]
_Solved: TypeAlias = tuple[Floats, Floats]


def fit_blocks(values: Floats, weights: Floats, kind: GroupedType) -> BlockGrid:
    """The grid of a matrix [out, in], whose width is a multiple of the type's block.

    Args:
        weights: of squared errors, [out, in] or [1, in]; not negative.
    """
    at_once = max(_AT_ONCE // values.shape[1], 1)
    everywhere = np.broadcast_to(weights, values.shape)
    parts = [
        _fit(_Groups.of(values[rows], everywhere[rows], kind))
        for start in range(0, len(values), at_once)
        for rows in [slice(start, start + at_once)]
    ]

    def rows_of(columns: Sequence[Array]) -> Array:
        return np.concatenate(columns).reshape(len(values), -1)

    return BlockGrid(
        kind,
        rows_of([part.steps for part in parts]),
        rows_of([part.lows for part in parts]),
        rows_of([part.step_factors for part in parts]),
        rows_of([part.low_factors for part in parts]),
    )


@dataclass(frozen=True)
class _Groups:
    """Values and what their errors weigh, [groups, values of one] both."""

    kind: GroupedType
    values: Floats
    weights: Floats

    @staticmethod
    def of(values: Floats, weights: Floats, kind: GroupedType) -> _Groups:
        shape = (-1, kind.group)
        return _Groups(kind, values.reshape(shape), weights.reshape(shape))

    def codes(self, steps: Floats, lows: Floats) -> Floats:
        """The nearest ones, for steps and lows [groups]."""
        inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps != 0)
        codes = (self.values + lows[:, None]) * inverse[:, None]
        np.rint(codes, out=codes)
        return np.clip(codes, *self.kind.codes, out=codes)

    def errors(self, codes: Floats, steps: Floats, lows: Floats) -> Floats:
        """Weighted squares, [groups]."""
        off = codes * steps[:, None] - lows[:, None] - self.values
        return self.sums(off, off)

    def sums(self, *factors: Floats) -> Floats:
        """Weighted sums of products, [groups]."""
        letters = ",".join(["gi"] * (1 + len(factors)))
        found: Floats = np.einsum(f"{letters}->g", self.weights, *factors)
        return found

    def solve(self, codes: Floats) -> tuple[Floats, Floats]:
        """The steps and lows of the least errors with given codes."""
        return _least_squares(*self.moments(codes))

    def moments(self, codes: Floats) -> _Moments:
        """What least squares need of each group: weighted sums of code * code, code, 1,
        code * value and value; without lows, zeros for those that have to do with them."""
        qq, qx = self.sums(codes, codes), self.sums(codes, self.values)
        if not self.kind.has_lows:
            zeros = np.zeros_like(qq)
            return qq, zeros, zeros, qx, zeros
        return qq, self.sums(codes), self.sums(), qx, self.sums(self.values)


def _least_squares(aa: Floats, am: Floats, mm: Floats, ax: Floats, mx: Floats) -> _Solved:
    """Step and low, which is not below zero, where values are about step * a - low * m."""
    step_alone = np.divide(ax, aa, out=np.zeros_like(ax), where=aa > 0)
    low_alone = np.divide(-mx, mm, out=np.zeros_like(mx), where=mm > 0)
    spread = aa * mm - am * am
    both = spread > _SINGULAR * aa * mm
    steps = np.divide(ax * mm - am * mx, spread, out=np.zeros_like(ax), where=both)
    lows = np.divide(am * ax - aa * mx, spread, out=low_alone.copy(), where=both)
    below = (lows < 0) | ~both & (low_alone <= 0)
    return np.where(below, step_alone, steps), np.where(below, np.float32(0), lows)


def _fit(groups: _Groups) -> BlockGrid:
    """A row for each block."""
    steps, lows = _best_of(groups, _ranges(groups))
    for _ in range(_ROUNDS):
        steps, lows = groups.solve(groups.codes(steps, lows))
    if groups.kind.factors is not None:
        return _factored(groups, steps, lows)
    ones = np.ones((len(steps), 1), np.int16)
    return BlockGrid(groups.kind, _half(steps)[:, None], _half(lows)[:, None], ones, ones)


def _ranges(groups: _Groups) -> Iterator[tuple[Floats, Floats]]:
    """Steps and lows that span each group, its ends on or about the last codes."""
    values, (least, greatest) = groups.values, groups.kind.codes
    zeros = np.zeros(len(values), np.float32)
    if groups.kind.has_lows:
        low = np.minimum(values.min(axis=1), 0)
        span = np.maximum(values.max(axis=1), 0) - low
        yield from ((span / (greatest + shift), -low) for shift in _SHIFTS)
        return
    largest = np.take_along_axis(values, np.abs(values).argmax(axis=1)[:, None], axis=1)[:, 0]
    for end in (greatest,) if greatest == -least else (least, greatest):
        yield from ((largest / (end + np.sign(end) * shift), zeros) for shift in _SHIFTS)


def _best_of(groups: _Groups, candidates: Iterator[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Of what `solve` makes of each candidate's codes, the one of the least error."""
    best = np.full(len(groups.values), np.inf, np.float32)
    steps = lows = np.zeros_like(best)
    for candidate in candidates:
        codes = groups.codes(*candidate)
        solved = groups.solve(codes)
        errors = groups.errors(codes, *solved)
        better = errors < best
        best = np.where(better, errors, best)
        steps, lows = (np.where(better, *pair) for pair in zip(solved, (steps, lows), strict=True))
    return steps, lows


def _half(values: Floats) -> Floats:
    narrow: Floats = np.clip(values, -_LARGEST, _LARGEST).astype(np.float16).astype(np.float32)
    return narrow


# --- types whose groups share a block's step and low ----------------------------------------------


def _factored(groups: _Groups, steps: Floats, lows: Floats) -> BlockGrid:
    """Steps and lows of groups as integers times those of their blocks; a row for each block."""
    kind = groups.kind
    assert kind.factors is not None
    least, greatest = kind.factors
    steps, lows = (part.reshape(-1, kind.block // kind.group) for part in (steps, lows))
    largest: Floats = np.take_along_axis(steps, np.abs(steps).argmax(axis=1)[:, None], axis=1)
    block_steps = _half(largest / np.float32(greatest if kind.has_lows else least))
    block_lows = _half(lows.max(axis=1, keepdims=True) / greatest)
    factors = (_whole(part, of, kind) for part, of in ((steps, block_steps), (lows, block_lows)))
    grid = BlockGrid(kind, block_steps, block_lows, *factors)
    for _ in range(_ROUNDS):
        grid = _refitted(groups, _best_neighbours(groups, grid))
    return _best_neighbours(groups, grid)


def _whole(parts: Floats, of: Floats, kind: GroupedType) -> Integers:
    assert kind.factors is not None
    counts = np.divide(parts, of, out=np.zeros_like(parts), where=of != 0)
    factors: Integers = np.clip(np.rint(counts), *kind.factors).astype(np.int16)
    return factors


def _best_neighbours(groups: _Groups, grid: BlockGrid) -> BlockGrid:
    """Each group's factor, or one beside it, with the best low for it."""
    kind = grid.kind
    assert kind.factors is not None
    tried = []
    for beside in (0, -1, 1):
        factors = np.clip(grid.step_factors + np.int16(beside), *kind.factors)
        candidate = _with_best_lows(groups, replace(grid, step_factors=factors))
        tried.append((_errors(groups, candidate), candidate))
    best = np.argmin([errors for errors, _ in tried], axis=0)[None]
    step_factors, low_factors = (
        np.take_along_axis(np.stack([getattr(each, name) for _, each in tried]), best, 0)[0]
        for name in ("step_factors", "low_factors")
    )
    return replace(grid, step_factors=step_factors, low_factors=low_factors)


def _with_best_lows(groups: _Groups, grid: BlockGrid) -> BlockGrid:
    """The low of the least error for the codes that a grid gives."""
    if not grid.kind.has_lows:
        return grid
    steps, lows = _flat(grid)
    off = groups.codes(steps, lows) * steps[:, None] - groups.values
    weight = groups.sums()
    best = np.divide(groups.sums(off), weight, out=np.zeros_like(weight), where=weight > 0)
    return replace(
        grid, low_factors=_whole(best.reshape(grid.low_factors.shape), grid.lows, grid.kind)
    )


def _refitted(groups: _Groups, grid: BlockGrid) -> BlockGrid:
    """A block's step and low of the least error for the codes and factors that it has, where they
    help once they are rounded."""
    f, m = (part.astype(np.float32) for part in (grid.step_factors, grid.low_factors))
    of_groups = (part.reshape(f.shape) for part in groups.moments(groups.codes(*_flat(grid))))
    products = (p * q for p, q in zip(of_groups, (f * f, f * m, m * m, f, m), strict=True))
    moments = (np.sum(part, axis=1, keepdims=True) for part in products)
    steps, lows = (_half(part) for part in _least_squares(*moments))
    found = replace(grid, steps=steps, lows=lows)
    before, after = (_errors(groups, each).sum(axis=1, keepdims=True) for each in (grid, found))
    better = after < before
    return replace(
        grid,
        steps=np.where(better, steps, grid.steps),
        lows=np.where(better, lows, grid.lows),
    )


def _errors(groups: _Groups, grid: BlockGrid) -> Floats:
    """Of each group, in the shape of the grid's factors."""
    steps, lows = _flat(grid)
    return groups.errors(groups.codes(steps, lows), steps, lows).reshape(grid.step_factors.shape)


def _flat(grid: BlockGrid) -> tuple[Floats, Floats]:
    steps, lows = grid.of_groups()
    return steps.reshape(-1), lows.reshape(-1)
