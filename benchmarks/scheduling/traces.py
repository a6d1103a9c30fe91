"""Traces of several kinds. Arrivals lie between 0 and 1: whoever runs one sets the pace."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vivace.bench.simulate.trace import TraceRow

Maker = Callable[[int, int], list[TraceRow]]


def steady(requests: int, length: int) -> list[TraceRow]:
    """Requests of mixed lengths, one by one at random moments."""
    rng = np.random.default_rng(1)
    prompts = rng.integers(length // 64, length // 4, requests)
    answers = rng.integers(length // 128, length // 16, requests)
    return _rows(_poisson(requests, rng), prompts, answers)


def bursts(requests: int, length: int) -> list[TraceRow]:
    """Crowds that come at one moment, four of them."""
    rng = np.random.default_rng(2)
    arrivals = np.floor(4 * np.arange(requests) / requests) / 4
    prompts = rng.integers(length // 64, length // 8, requests)
    answers = rng.integers(length // 64, length // 16, requests)
    return _rows(arrivals, prompts, answers)


def long_prompts(requests: int, length: int) -> list[TraceRow]:
    """Short questions with long answers, and now and then a long prompt."""
    rng = np.random.default_rng(3)
    long = np.arange(requests) % 6 == 5
    prompts = np.where(long, 3 * length // 4, length // 32)
    answers = np.where(long, length // 64, length // 16)
    return _rows(_poisson(requests, rng), prompts, answers)


def shared_prefixes(requests: int, length: int) -> list[TraceRow]:
    """Four system prompts with questions of their own."""
    rng = np.random.default_rng(4)
    prefix = length // 4
    prompts = prefix + rng.integers(length // 64, length // 16, requests)
    answers = rng.integers(length // 64, length // 16, requests)
    shared = [
        {"prefix_id": f"system-{number}", "prefix_len": prefix}
        for number in rng.integers(0, 4, requests)
    ]
    return _rows(_poisson(requests, rng), prompts, answers, shared)


def tenants(requests: int, length: int) -> list[TraceRow]:
    """Three tenants, and a quarter of the requests in a hurry."""
    rng = np.random.default_rng(5)
    prompts = rng.integers(length // 64, length // 4, requests)
    answers = rng.integers(length // 64, length // 16, requests)
    standing = [
        {"tenant": f"tenant-{number}", "priority": -int(number == 0)}
        for number in rng.integers(0, 4, requests)
    ]
    return _rows(_poisson(requests, rng), prompts, answers, standing)


TRACES: Mapping[str, Maker] = {
    "steady": steady,
    "bursts": bursts,
    "long prompts": long_prompts,
    "shared prefixes": shared_prefixes,
    "tenants": tenants,
}


def _poisson(number: int, rng: np.random.Generator) -> np.ndarray:
    """Moments of a Poisson process, of which so many fall between 0 and 1."""
    return np.sort(rng.uniform(0, 1, number))


def _rows(
    arrivals: np.ndarray,
    prompts: np.ndarray,
    answers: np.ndarray,
    more: Sequence[Mapping[str, Any]] | None = None,
) -> list[TraceRow]:
    return [
        TraceRow(
            **{"prefix_id": None, "prefix_len": 0, **(more[index] if more else {})},
            line=index + 1,
            arrival_seconds=float(arrivals[index]),
            prompt_tokens=None,
            prompt_len=int(prompts[index]),
            max_tokens=int(answers[index]),
        )
        for index in range(len(arrivals))
    ]
