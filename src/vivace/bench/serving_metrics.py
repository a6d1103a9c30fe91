"""From the outcomes of requests to the figures of a serving benchmark.

Names and definitions are those of `vllm bench serve`, times in milliseconds where a name ends so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.bench.outcome import Outcome
from vivace.core.errors import UsageError

METRICS = ("ttft", "tpot", "itl", "e2el")
SLO_METRICS = ("ttft", "tpot", "e2el")
MILLISECONDS = 1000.0


@dataclass(frozen=True)
class Wanted:
    """Which figures are wanted.

    Attributes:
        metrics: of ttft, tpot, itl and e2el.
        percentiles: of each of them.
        objectives: per metric, the milliseconds within which a request counts as good; None
            leaves the goodput out.
    """

    metrics: tuple[str, ...] = METRICS
    percentiles: tuple[float, ...] = (99.0,)
    objectives: Mapping[str, float] | None = None


def parse_wanted(metrics: str, percentiles: str, objectives: str) -> Wanted:
    """From "ttft,tpot", "50,99.9" and "ttft:200 tpot:50".

    Raises:
        UsageError: a metric is unknown, or a number is none.
    """
    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    if unknown := set(names) - set(METRICS):
        raise UsageError(f"{unknown.pop()!r} is no metric: choose from {', '.join(METRICS)}.")
    ranks = tuple(_number(text, "percentile") for text in percentiles.split(",") if text.strip())
    if not all(0 <= rank <= 100 for rank in ranks):
        raise UsageError("A percentile is from 0 to 100.")
    return Wanted(names, ranks, dict(map(_objective, objectives.split())) or None)


def _objective(text: str) -> tuple[str, float]:
    name, _, value = text.partition(":")
    if name not in SLO_METRICS:
        raise UsageError(
            f"--goodput takes METRIC:MILLISECONDS of {', '.join(SLO_METRICS)}, got {text!r}."
        )
    return name, _number(value, "number of milliseconds")


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no {what}.") from error


def summarize(outcomes: Sequence[Outcome], duration: float, wanted: Wanted) -> dict[str, Any]:
    """All figures of a run that took `duration` seconds; None is what could not be measured."""
    done = [outcome for outcome in outcomes if outcome.error is None]
    inputs = sum(outcome.input_len or 0 for outcome in done)
    outputs = sum(outcome.output_len for outcome in done)
    tokens, concurrent = per_second(done)
    return {
        "duration": duration,
        "completed": len(done),
        "failed": len(outcomes) - len(done),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": len(done) / duration,
        "request_goodput": goodput(done, duration, wanted.objectives),
        "output_throughput": outputs / duration,
        "total_token_throughput": (inputs + outputs) / duration,
        "max_output_tokens_per_s": float(tokens.max(initial=0)),
        "max_concurrent_requests": int(concurrent.max(initial=0)),
        **_latencies(done, wanted),
    }


def detailed(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Every request's own figures, in seconds."""
    return {
        "input_lens": [outcome.input_len for outcome in outcomes],
        "output_lens": [outcome.output_len for outcome in outcomes],
        "ttfts": [outcome.ttft for outcome in outcomes],
        "itls": [list(outcome.itls) for outcome in outcomes],
        "latencies": [outcome.latency for outcome in outcomes],
        "start_times": [outcome.start for outcome in outcomes],
        "generated_texts": [outcome.text for outcome in outcomes],
        "errors": [outcome.error or "" for outcome in outcomes],
    }


def goodput(
    done: Sequence[Outcome], duration: float, objectives: Mapping[str, float] | None
) -> float | None:
    """Requests per second that met every objective; None where none was set.

    An answer of one token has no time per output token, and meets any objective for it.
    """
    if objectives is None:
        return None
    good = sum(
        all(_seconds(one, name) * MILLISECONDS <= bar for name, bar in objectives.items())
        for one in done
    )
    return good / duration


def _seconds(outcome: Outcome, metric: str) -> float:
    values = {"ttft": outcome.ttft, "tpot": outcome.tpot or 0.0, "e2el": outcome.latency}
    return values[metric]


def samples(done: Sequence[Outcome], metric: str) -> list[float]:
    """Seconds: one per request, or for itl one per gap; requests without a tpot have none."""
    if metric == "itl":
        return [gap for outcome in done for gap in outcome.itls]
    if metric == "tpot":
        return [outcome.tpot for outcome in done if outcome.tpot is not None]
    return [_seconds(outcome, metric) for outcome in done]


def _latencies(done: Sequence[Outcome], wanted: Wanted) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for metric in wanted.metrics:
        values = np.asarray(samples(done, metric)) * MILLISECONDS
        for name, value in _statistics(values, wanted.percentiles).items():
            found[f"{name}_{metric}_ms"] = value
    return found


def _statistics(
    values: NDArray[np.float64], percentiles: Sequence[float]
) -> dict[str, float | None]:
    ranks = [f"p{rank:g}" for rank in percentiles]
    if not values.size:
        return dict.fromkeys(("mean", "median", "std", *ranks))
    statistics = (np.mean(values), np.median(values), np.std(values))
    return {
        **dict(zip(("mean", "median", "std"), map(float, statistics), strict=True)),
        **dict(zip(ranks, np.percentile(values, percentiles).tolist(), strict=True)),
    }


def token_times(outcome: Outcome) -> NDArray[np.float64]:
    """When each chunk of an answer came, in seconds after the run began."""
    return outcome.start + outcome.ttft + np.cumsum([0.0, *outcome.itls])


def per_second(done: Sequence[Outcome]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Chunks that came, and requests that were under way, in each second since the first start.

    A request counts in every second that it touched.
    """
    if not done:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    first = min(outcome.start for outcome in done)
    last = max(outcome.start + outcome.latency for outcome in done)
    tokens = np.zeros(ceil(last - first) + 1, np.int64)
    concurrent = np.zeros_like(tokens)
    for outcome in done:
        np.add.at(tokens, (token_times(outcome) - first).astype(np.int64), 1)
        begin, end = outcome.start - first, outcome.start + outcome.latency - first
        concurrent[int(begin) : int(end) + 1] += 1
    return tokens, concurrent
