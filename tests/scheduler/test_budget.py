"""How many sequences and tokens a step gets, fixed or by a target."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from timed_engine import TimedEngine

from vivace.core.errors import UsageError
from vivace.scheduler.budget import (
    CHUNK,
    TILE,
    Demand,
    FirstTokenBudget,
    FixedBudget,
    Prompt,
    StreamBudget,
    step_budget,
)
from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.step_time import StepShape, StepTimeModel, attended

pytestmark = pytest.mark.tiny

FIXED = FixedBudget(128)


def seconds_of(shape: StepShape) -> float:
    return 0.010 + 0.0005 * shape.tokens + 2e-7 * shape.prefill_context


def taught() -> StepTimeModel:
    """A model that has seen steps of every size with 4 decodes, the last one of decodes alone."""
    model = StepTimeModel()
    for prefill in (*range(2, 512, 5), 0):
        shape = StepShape(prefill + 4, 5, 4, 400, prefill * (prefill + 1) // 2, 4)
        model.observe(shape, seconds_of(shape))
    model.refine()
    return model


@pytest.mark.parametrize("target", [0.03, 0.06, 0.1, 0.2])
def test_a_target_allows_the_most_prefill_that_meets_it(target: float) -> None:
    budget = StreamBudget(512, target, taught(), FIXED)
    prefill = budget.prefill(Demand(4))
    assert (4 + prefill) % TILE == 0, "no tile is computed in part"

    def takes(tokens: int) -> float:
        return seconds_of(StepShape(tokens + 4, 5, 4, 400, tokens * (tokens + 1) // 2, 4))

    assert takes(prefill) < 1.05 * target
    assert takes(prefill + TILE) > 0.95 * target


def test_a_prompt_far_on_gets_less_than_one_that_begins() -> None:
    model = taught()
    budget = StreamBudget(512, 0.1, model, FIXED)
    before = budget.prefill(Demand(4))
    far = StepShape(4 + 64, 5, 4, 400, 64 * 4000, 4)
    model.observe(far, seconds_of(far))
    assert CHUNK < budget.prefill(Demand(4)) < before


def test_prompts_get_on_where_decoding_alone_misses_the_target() -> None:
    assert StreamBudget(512, 0.001, taught(), FIXED).prefill(Demand(4)) == CHUNK


def test_a_budget_never_exceeds_the_step() -> None:
    budget = StreamBudget(64, 10.0, taught(), FIXED)
    assert budget.prefill(Demand(4)) == 64 - 4
    assert budget.prefill(Demand(63)) == CHUNK, "prompts get on"


@pytest.mark.parametrize(
    ("target", "streams"),
    [(0.03, 46), (0.02, 24), (0.001, 1), (1.0, 64)],  # 10 ms and half a ms for each, in 1.1 of it
)
def test_as_many_run_as_can_keep_their_target(target: float, streams: int) -> None:
    model = StepTimeModel()
    for others in range(1, 64, 3):
        for prefill in (0, 16, 64):
            shape = StepShape(others + prefill, others + (prefill > 0), others, 0, 0, others)
            model.observe(shape, 0.010 + 0.0005 * shape.tokens)
    model.refine()
    budget = StreamBudget(512, target, model, FIXED)
    assert budget.seats(64) == pytest.approx(streams, abs=1)
    assert budget.seats(5) == min(5, budget.seats(64))


def test_only_a_target_between_tokens_limits_how_many_run() -> None:
    assert FIXED.seats(64) == 64
    assert FirstTokenBudget(512, 0.001, taught(), FIXED).seats(64) == 64
    assert StreamBudget(512, 0.001, StepTimeModel(), FIXED).seats(64) == 64, "nothing is known yet"


@pytest.mark.parametrize(
    ("target", "prompts", "prefill"),
    [
        (100.0, [Prompt(1000, 0.0)], 31),  # the least there is
        (0.75, [Prompt(1000, 0.0)], 63),  # 16 steps of 0.044 s; of 31 tokens 33 of 0.028
        (0.65, [Prompt(1000, 0.0)], 127),  # 8 of 0.077
        (0.65, [Prompt(10, 0.0), Prompt(990, 0.0)], 127),
        (0.65, [Prompt(1000, 0.2)], 508),
        (0.75, [Prompt(10, 0.74)], 508),  # too late already
    ],
)
def test_first_tokens_get_the_least_prefill_that_is_in_time(
    target: float, prompts: list[Prompt], prefill: int
) -> None:
    budget = FirstTokenBudget(512, target, taught(), FIXED)
    assert budget.prefill(Demand(4, prompts=prompts)) == prefill


def test_where_nobody_waits_for_a_first_token_the_fixed_rule_holds() -> None:
    assert FirstTokenBudget(512, 1.0, taught(), FIXED).prefill(Demand(4)) == 128


def test_without_experience_the_fixed_rule_holds() -> None:
    prompts = [Prompt(1000, 0.0)]
    for budget in (StreamBudget, FirstTokenBudget):
        untaught = budget(512, 0.01, StepTimeModel(), FIXED)
        assert untaught.prefill(Demand(4, prompts=prompts)) == 128


def test_targets_choose_the_budget() -> None:
    model = StepTimeModel()
    assert step_budget(SchedulerConfig(), model) == FIXED
    first = SchedulerConfig(target_ttft_ms=100)
    assert step_budget(first, model) == FirstTokenBudget(512, 0.1, model, FIXED)
    both = SchedulerConfig(target_itl_ms=50, target_ttft_ms=100)
    assert step_budget(both, model) == StreamBudget(512, 0.05, model, FIXED)


@pytest.mark.parametrize("name", ["target_itl_ms", "target_ttft_ms"])
def test_a_target_is_above_0(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be above 0"):
        SchedulerConfig(**{name: 0.0})


class Figures(NamedTuple):
    """Attributes:
    steps: what those took in which some decode.
    ttfts: of the prompts.
    """

    steps: list[float]
    ttfts: list[float]


def run_with(
    config: SchedulerConfig,
    priority: int = 0,
    takes: Callable[[StepShape], float] = seconds_of,
) -> Figures:
    """4 streams decode while prompts of 2,000 tokens arrive; the clock follows `takes`."""
    engine = TimedEngine(config, takes)
    for number in range(4):
        engine.add(f"stream {number}", 20, 300)
    for number in range(250):
        if number % 50 == 20:
            engine.add(f"prompt {number}", 2000, 1, priority)
        engine.step()
    steps = [seconds for shape, seconds in engine.steps if shape.decodes]
    return Figures(steps, [ttft for name, ttft in engine.ttfts.items() if "prompt" in name])


def test_running_streams_keep_their_target_beside_long_prompts() -> None:
    target = 3 * 0.012
    free = run_with(SchedulerConfig(max_prefill_beside_decodes=512)).steps
    held = sorted(run_with(SchedulerConfig(target_itl_ms=1000 * target)).steps)
    assert max(free) > 5 * target
    assert held[int(0.99 * len(held))] < 1.25 * target
    assert held[-30] > 0.6 * target  # and prompts get what is left


def test_nine_of_ten_steps_keep_the_target_where_times_vary() -> None:
    rng = np.random.default_rng(0)

    def varying(shape: StepShape) -> float:
        return seconds_of(shape) * float(np.exp(rng.normal(0, 0.1)))

    steps = np.array(run_with(SchedulerConfig(target_itl_ms=80), takes=varying).steps)
    full = steps[steps > 0.5 * 0.080]
    assert 0 < np.mean(full > 0.080) < 0.12


def test_a_crowd_takes_no_more_seats_than_keep_the_target() -> None:
    """Each stream costs half a millisecond of a step; 60 of them would miss the target."""
    target = 0.025
    engine = TimedEngine(SchedulerConfig(target_itl_ms=1000 * target), seconds_of)
    for number in range(60):
        if number == 10:
            for _ in range(20):
                engine.step()
        engine.add(f"stream {number}", 20, 40)
    while engine.has_work:
        engine.step()
    decoding = [seconds for shape, seconds in engine.steps if not shape.prefill_tokens]
    assert target < max(decoding) < 1.15 * target


def test_an_urgent_prompt_is_computed_whole_in_the_next_step_and_no_other_beside_it() -> None:
    """So it waits for the step under way and its own, although batch work waits for every seat."""
    engine = TimedEngine(SchedulerConfig(max_num_seqs=8), seconds_of)
    for number in range(40):
        engine.add(f"batch {number}", 500, 100)
    for number in range(30):
        for _ in range(10):
            engine.step()
        engine.add(f"urgent {number}", 128, 5, priority=-1)
        engine.step()
        shape, seconds = engine.steps[-1]
        assert (shape.prefill_tokens, shape.prefill_context) == (128, attended(0, 128))
        assert engine.ttfts[f"urgent {number}"] == pytest.approx(seconds)


def test_first_tokens_come_in_time_and_hold_up_streams_no_more_than_that_takes() -> None:
    free = run_with(SchedulerConfig(max_prefill_beside_decodes=512))
    held = run_with(SchedulerConfig(target_ttft_ms=2000))
    assert max(free.ttfts) < 1.5
    assert max(held.ttfts) < 1.05 * 2
    assert sorted(held.steps)[-2] < 0.3 * max(free.steps)  # the first one taught the model


@pytest.mark.parametrize("config", [SchedulerConfig(), SchedulerConfig(target_itl_ms=36)])
def test_a_prompt_of_a_better_priority_does_not_hold_back(config: SchedulerConfig) -> None:
    full = 4 * 0.010 + 0.0005 * (2000 + 4 * 4) + 2e-7 * attended(0, 2000)  # 4 full steps
    assert run_with(config, priority=-1).ttfts == pytest.approx([full] * 5)
    assert min(run_with(config).ttfts) > 1.05 * full
