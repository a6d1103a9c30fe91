"""How many tokens a step gets, fixed or by a target."""

from __future__ import annotations

import pytest

from vivace.cache.blocks import KVGroup, KVManager
from vivace.core.errors import UsageError
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Advance, Picked
from vivace.scheduler.budget import (
    CHUNK,
    Demand,
    FirstTokenBudget,
    FixedBudget,
    Prompt,
    StreamBudget,
    token_budget,
)
from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.scheduler import Scheduler
from vivace.scheduler.step_time import StepShape, StepTimeModel

pytestmark = pytest.mark.tiny

FIXED = FixedBudget(512, 128)


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


@pytest.mark.parametrize(
    ("decoding", "running", "tokens"),
    [(0, 0, 512), (0, 9, 512), (4, 4, 132), (1, 200, 200), (500, 500, 512)],
)
def test_a_fixed_budget(decoding: int, running: int, tokens: int) -> None:
    assert FIXED.tokens(Demand(decoding, running)) == tokens


@pytest.mark.parametrize("target", [0.03, 0.06, 0.1, 0.2])
def test_a_target_allows_the_most_prefill_that_meets_it(target: float) -> None:
    budget = StreamBudget(512, target, taught(), FIXED)
    prefill = budget.tokens(Demand(4, 4)) - 4
    assert prefill % CHUNK == 0

    def takes(tokens: int) -> float:
        return seconds_of(StepShape(tokens + 4, 5, 4, 400, tokens * (tokens + 1) // 2, 4))

    assert takes(prefill) < 1.05 * target
    assert takes(prefill + 2 * CHUNK) > 0.95 * target


def test_a_prompt_far_on_gets_less_than_one_that_begins() -> None:
    model = taught()
    budget = StreamBudget(512, 0.1, model, FIXED)
    before = budget.tokens(Demand(4, 5))
    far = StepShape(4 + 64, 5, 4, 400, 64 * 4000, 4)
    model.observe(far, seconds_of(far))
    assert CHUNK + 4 < budget.tokens(Demand(4, 5)) < before


def test_prompts_get_on_where_decoding_alone_misses_the_target() -> None:
    budget = StreamBudget(512, 0.001, taught(), FIXED)
    assert budget.tokens(Demand(4, 4)) == 4 + CHUNK
    assert budget.tokens(Demand(4, 100)) == 100


def test_a_budget_never_exceeds_the_step() -> None:
    budget = StreamBudget(64, 10.0, taught(), FixedBudget(64, 128))
    assert budget.tokens(Demand(4, 4)) == 52 <= 64
    assert budget.tokens(Demand(63, 63)) == 64
    assert budget.tokens(Demand(64, 64)) == 64


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
    assert budget.tokens(Demand(4, 5, prompts)) == 4 + prefill


def test_where_nobody_waits_for_a_first_token_the_fixed_rule_holds() -> None:
    assert FirstTokenBudget(512, 1.0, taught(), FIXED).tokens(Demand(4, 4)) == 132


def test_without_decodes_or_experience_the_fixed_rule_holds() -> None:
    assert StreamBudget(512, 0.01, taught(), FIXED).tokens(Demand(0, 5)) == 512
    assert StreamBudget(512, 0.01, StepTimeModel(), FIXED).tokens(Demand(4, 4)) == 132


def test_targets_choose_the_budget() -> None:
    model = StepTimeModel()
    assert token_budget(SchedulerConfig(), model) == FIXED
    first = SchedulerConfig(target_ttft_ms=100)
    assert token_budget(first, model) == FirstTokenBudget(512, 0.1, model, FIXED)
    both = SchedulerConfig(target_itl_ms=50, target_ttft_ms=100)
    assert token_budget(both, model) == StreamBudget(512, 0.05, model, FIXED)


@pytest.mark.parametrize("name", ["target_itl_ms", "target_ttft_ms"])
def test_a_target_is_above_0(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be above 0"):
        SchedulerConfig(**{name: 0.0})


def run_with(config: SchedulerConfig) -> list[float]:
    """The times of steps in which 4 streams decode while prompts of 2,000 tokens arrive."""
    kv = KVManager([KVGroup(4000)], 16, sharing=False)
    scheduler = Scheduler(config, kv)
    for number in range(4):
        scheduler.add(Request(f"s{number}", (1,) * 20, SamplingParams(max_tokens=300)))
    times = []
    for number in range(250):
        if number % 50 == 20:
            scheduler.add(Request(f"p{number}", (1,) * 2000, SamplingParams(max_tokens=1)))
        step = scheduler.schedule()
        shape = StepShape.of(step)
        scheduler.step_time.observe(shape, seconds_of(shape))
        if shape.decodes:
            times.append(seconds_of(shape))
        ids = [one.request.request_id for one in step.sampling]
        ended = ["length" if name[0] == "p" else None for name in ids]
        advances = [Advance(name, finish_reason=end) for name, end in zip(ids, ended, strict=True)]
        scheduler.update(step, [Picked(name, 0) for name in ids], advances)
    return times


def test_running_streams_keep_their_target_beside_long_prompts() -> None:
    target = 3 * 0.012
    free = run_with(SchedulerConfig(max_prefill_beside_decodes=512))
    held = sorted(run_with(SchedulerConfig(target_itl_ms=1000 * target)))
    assert max(free) > 5 * target
    assert held[int(0.99 * len(held))] < 1.25 * target
    assert held[-30] > 0.6 * target  # and prompts get what is left
