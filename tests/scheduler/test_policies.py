"""Whose turn it is: each policy alone, and together under an adversary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from paged_model import PAGE, Engine, alone

from vivace.cache.blocks import KVGroup
from vivace.core.errors import OverloadedError
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Step
from vivace.scheduler.admission import Admission
from vivace.scheduler.fair_share import FairShare
from vivace.scheduler.scheduler import PolicyConfig, SchedulerConfig
from vivace.scheduler.sequence import Sequence
from vivace.scheduler.step_time import StepShape

pytestmark = pytest.mark.tiny


def request(name: str, prompt: int = 5, max_tokens: int = 4, **fields: Any) -> Request:
    """A prompt of that many tokens that no other name has."""
    token = 1 + sum(map(ord, name)) % 40
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
    return Request(name, (token,) * prompt, params, **fields)


def engine_of(
    seats: int = 1, pages: int = 200, policies: PolicyConfig | None = None, budget: int = 64
) -> Engine:
    return Engine([KVGroup(pages)], SchedulerConfig(seats, budget), policies=policies)


def names(step: Step) -> list[str]:
    return [one.request.request_id for one in step.sequences]


def test_a_better_priority_takes_a_seat_at_the_next_step_and_the_other_keeps_its_pages() -> None:
    engine = engine_of(seats=1)
    long = request("long", 40, 20, priority=1)
    engine.add([long])
    engine.step()
    engine.step()
    used = engine.kv.pages_used
    engine.add([request("urgent", 5, 3)])
    step = engine.schedule()
    assert names(step) == ["urgent"]
    assert engine.kv.pages_used == used + 1
    engine.finish(step)
    computed = engine.computed
    engine.run()
    assert engine.output["long"] == alone(long, [None])
    assert engine.computed - computed == 2 + 18, "nothing is computed twice"


def test_a_paused_request_gives_up_its_pages_where_they_are_needed() -> None:
    engine = engine_of(seats=1, pages=5)
    long = request("long", 40, 20, priority=1)
    engine.add([long])
    engine.step()
    engine.add([request("urgent", 3 * PAGE, 3)])
    assert names(engine.schedule()) == ["urgent"]
    engine.scheduler.check_integrity()
    engine.run()
    assert engine.output["long"] == alone(long, [None])


def test_who_waited_too_long_goes_before_every_later_one() -> None:
    engine = engine_of(seats=1, policies=PolicyConfig(max_wait_seconds=5))
    engine.add([request("batch", 5, 50, priority=9)])
    served = []
    for number in range(12):
        engine.add([request(f"u{number}", 5, 3)])
        step = engine.schedule()
        served.append(names(step)[0])
        engine.finish(step)
    assert served.index("batch") == 5
    assert set(served[5:]) == {"batch"}


def test_the_earliest_deadline_goes_first_inside_a_priority() -> None:
    engine = engine_of(seats=2)
    engine.add(
        [
            request("none"),
            request("late", deadline=90.0),
            request("soon", deadline=50.0),
            request("better", priority=-1),
        ]
    )
    assert names(engine.schedule()) == ["better", "soon"]


def test_who_is_late_is_ended_only_if_it_asked_for_it() -> None:
    engine = engine_of(seats=1)
    engine.add(
        [
            request("runs", 5, 9, deadline=2.5, drop_if_late=True),
            request("waits", deadline=2.5, drop_if_late=True, priority=1),
            request("stays", deadline=2.0, priority=2),
        ]
    )
    for _ in range(3):
        assert engine.drop_late() == []
        engine.step()
    ended = engine.drop_late()
    assert {(one.request_id, one.finish_reason) for one in ended} == {
        ("runs", "deadline"),
        ("waits", "deadline"),
    }
    assert len(engine.output["runs"]) == 3
    engine.run()
    assert len(engine.output["stays"]) == 4


def test_the_longest_known_prefix_goes_first_but_not_for_ever() -> None:
    engine = engine_of(seats=1)
    engine.add([request("known", 3 * PAGE, 1)])
    engine.run()
    engine.add([request("other", 5, 1), replace(request("known", 3 * PAGE, 1), request_id="k2")])
    assert names(engine.schedule()) == ["k2"]
    engine.step()
    engine.add([request("busy", 5, 9, priority=-1)])
    for number in range(6):
        engine.add([replace(request("known", 3 * PAGE, 1), request_id=f"again{number}")])
        engine.step()
    while names(step := engine.schedule()) == ["busy"]:
        engine.finish(step)
    assert names(step) == ["other"]


def test_a_tenant_with_many_requests_does_not_hold_up_another() -> None:
    engine = engine_of(seats=4)
    engine.add([request(f"a{number}", 20, 40, tenant="a") for number in range(20)])
    engine.step()
    assert engine.scheduler.num_running == 4
    engine.add([request("b", 5, 40, tenant="b"), request("b2", 5, 40, tenant="b")])
    engine.step()
    assert {"b", "b2"} <= set(names(engine.schedule()))


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_service_follows_the_weights(weight: float) -> None:
    engine = engine_of(seats=8, policies=PolicyConfig(tenant_weights={"a": weight}))
    for tenant in "ab":
        engine.add([request(f"{tenant}{n}", 8, 12, tenant=tenant) for n in range(120)])
    for _ in range(100):
        engine.step()
    drawn = {
        tenant: sum(len(out) for name, out in engine.output.items() if name[0] == tenant)
        for tenant in "ab"
    }
    assert drawn["a"] / drawn["b"] == pytest.approx(weight, rel=0.15)


def test_a_tenant_that_comes_back_has_saved_nothing_up() -> None:
    shares = FairShare()
    shares.join("a")
    work = Sequence(request("w", 1000, tenant="a"), 0, 0.0)
    shares.charge(work, 0, 1000, 5)
    shares.charge(work, 0, 1000, 0)
    assert shares.counter("a") == 1010, "what is computed again is charged once"
    shares.join("b")
    assert shares.counter("b") == 1010
    shares.leave("b")
    shares.leave("a")
    shares.join("c")
    assert shares.counter("c") == 1010


def test_requests_of_equal_tenants_take_turns() -> None:
    shares = FairShare({"b": 2.0})
    asked = [
        Sequence(request(name, 10, tenant=name[0]), 0, 0.0) for name in ("a1", "a2", "b1", "b2")
    ]
    for sequence in asked:
        shares.join(sequence.request.tenant)
    assert shares.starts(asked) == [0, 10, 0, 5], "a weight of 2 halves what a turn costs"


def test_the_queue_has_limits_and_says_when_to_come_back() -> None:
    admission = Admission(2, 100, estimate=lambda tokens: tokens / 10)
    admission.check([], 10_000)
    admission.check([30], 70)
    with pytest.raises(OverloadedError) as by_number:
        admission.check([30, 20], 1)
    assert by_number.value.retry_after_seconds == 3.0
    assert by_number.value.code == "max_num_queued_reqs"
    with pytest.raises(OverloadedError) as by_tokens:
        admission.check([30], 90)
    assert by_tokens.value.retry_after_seconds == 2.0
    assert by_tokens.value.code == "max_num_queued_tokens"


def test_only_those_that_wait_are_in_the_queue() -> None:
    engine = engine_of(seats=1, policies=PolicyConfig(max_queued_requests=1))
    engine.add([request("a")])
    engine.step()
    engine.add([request("b")])
    with pytest.raises(OverloadedError):
        engine.scheduler.add(request("c"))
    engine.run()


def test_the_time_to_come_back_is_that_of_the_steps_the_queue_takes() -> None:
    engine = engine_of(seats=1, budget=10, policies=PolicyConfig(max_queued_tokens=20))
    for tokens in [*range(1, 11)] * 8:
        engine.scheduler.step_time.observe(StepShape(tokens, 1, 0, 0, 0, 1), 0.1 * tokens)
    engine.add([request("a", 10)])
    with pytest.raises(OverloadedError) as refused:
        engine.scheduler.add(request("b", 30))
    assert refused.value.retry_after_seconds == pytest.approx(2.0, rel=0.1)


class Adversary(RuleBasedStateMachine):
    """Requests of every kind at any time: nobody waits beyond the bound for a later one, nothing
    is lost, and tokens are those of each request alone."""

    MAX_WAIT = 6.0

    def __init__(self) -> None:
        super().__init__()
        self.engine = engine_of(
            seats=3, pages=12, policies=PolicyConfig(max_wait_seconds=self.MAX_WAIT), budget=24
        )
        self.requests: dict[str, Request] = {}
        self.waited: dict[str, float] = {}

    @rule(
        prompt=st.integers(1, 60),
        max_tokens=st.integers(1, 12),
        priority=st.integers(-2, 2),
        tenant=st.sampled_from("ab"),
        deadline=st.sampled_from([None, 5.0, 50.0]),
    )
    def add(self, prompt: int, max_tokens: int, **fields: Any) -> None:
        if fields["deadline"] is not None:
            fields["deadline"] += self.engine.now
        one = request(f"r{len(self.requests)}", prompt, max_tokens, **fields)
        self.requests[one.request_id] = one
        self.waited[one.request_id] = 0.0
        self.engine.add([one])

    @precondition(lambda self: self.engine.scheduler.has_work)
    @rule(count=st.integers(1, 5))
    def step(self, count: int) -> None:
        for _ in range(count):
            if not self.engine.scheduler.has_work:
                return
            step = self.engine.schedule()
            self._check_bound(names(step))
            self.engine.finish(step)

    @rule(pick=st.integers(0, 1000))
    def abort(self, pick: int) -> None:
        if self.requests and pick % 10 == 0:
            name = list(self.requests)[pick % len(self.requests)]
            self.engine.scheduler.abort(name)
            self.waited.pop(name, None)

    def _check_bound(self, running: list[str]) -> None:
        """Whoever aged has a seat, unless those before it in arrival hold all there is."""
        numbers = [int(name[1:]) for name in running]
        for name, waited in list(self.waited.items()):
            if name in self.engine.last and self.engine.last[name].finish_reason:
                del self.waited[name]
            elif name not in running:
                if waited >= self.MAX_WAIT:
                    later = [number for number in numbers if number > int(name[1:])]
                    assert len(running) < 3 or not self._unaged(later), (name, running)
                self.waited[name] += 1.0

    def _unaged(self, numbers: list[int]) -> bool:
        return any(self.waited.get(f"r{number}", 0.0) < self.MAX_WAIT for number in numbers)

    @invariant()
    def books_are_right(self) -> None:
        self.engine.scheduler.check_integrity()

    def teardown(self) -> None:
        self.engine.run()
        for name, one in self.requests.items():
            output, expected = self.engine.output[name], alone(one, [None])
            assert output == expected[: len(output)]
            ended = self.engine.last.get(name)
            if ended is not None and ended.finish_reason:
                assert output == expected


TestAdversary = Adversary.TestCase
TestAdversary.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, derandomize=True
)
