"""What a request generates depends on nothing but the request."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paged_model import PAGE, VOCAB, Engine, Windows, alone

from vivace.cache.blocks import KVGroup
from vivace.core.errors import RequestError
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.sight import ALL, Sight
from vivace.scheduler.scheduler import SchedulerConfig

pytestmark = pytest.mark.tiny

MAX_PROMPT = 70
MAX_OUTPUT = 40
BLOCKS = -(-(MAX_PROMPT + MAX_OUTPUT) // PAGE)

WINDOWS: list[Windows] = [(None,), (20,), (None, 5), (None, None, 33), (1, 40), (1, None)]
SIGHTS = (*[ALL] * 4, Sight(20, 4), Sight(PAGE, PAGE + 1), Sight(9), Sight(kept=21))


def some_requests(rng: random.Random, count: int) -> list[Request]:
    """Prompts of many lengths, most of which begin as others do."""
    stems = [[rng.randrange(1, VOCAB) for _ in range(MAX_PROMPT)] for _ in range(3)]
    requests = []
    for number in range(count):
        prompt = rng.choice(stems)[: rng.randint(1, MAX_PROMPT)]
        if rng.random() < 0.5:
            prompt[-1] = rng.randrange(1, VOCAB)
        params = SamplingParams(
            max_tokens=rng.randint(1, MAX_OUTPUT), ignore_eos=rng.random() < 0.5
        )
        requests.append(
            Request(
                f"r{number}",
                tuple(prompt),
                params,
                priority=rng.choice((0, 0, 1)),
                cache_salt=rng.choice(("", "", "salt")),
                sight=SIGHTS[number % len(SIGHTS)].of_prompt(len(prompt)),
            )
        )
    return requests


def pools(windows: Windows, blocks: int) -> list[KVGroup]:
    return [KVGroup(blocks, window) for window in windows]


def assert_as_alone(engine: Engine, requests: list[Request], windows: Windows) -> None:
    for request in requests:
        assert engine.output[request.request_id] == alone(request, windows)


@pytest.mark.parametrize("windows", WINDOWS)
@pytest.mark.parametrize("sharing", [True, False])
@pytest.mark.parametrize("scarce", [True, False])
@pytest.mark.parametrize("chunk", [1, 7, 64, None])
def test_tokens_are_those_of_each_request_alone(
    chunk: int | None, scarce: bool, sharing: bool, windows: Windows
) -> None:
    config = SchedulerConfig(
        max_num_seqs=12,
        max_num_batched_tokens=96,
        max_prefill_chunk=chunk,
        max_prefill_beside_decodes=40,
    )
    engine = Engine(pools(windows, BLOCKS + 1 if scarce else 30 * BLOCKS), config, sharing)
    requests = some_requests(random.Random(7), 60)
    engine.add(requests)
    engine.run()
    assert_as_alone(engine, requests, windows)
    counters = engine.scheduler.counters
    if scarce and None in windows:
        assert counters.preemptions > 0
    if not scarce:
        assert counters.preemptions == 0
        assert (counters.prefix_hit_tokens > 0) == sharing
    assert counters.prefix_query_tokens == sum(len(one.prompt_token_ids) for one in requests)
    assert counters.prompt_tokens == counters.prefix_query_tokens
    assert counters.generation_tokens == sum(map(len, engine.output.values()))


@pytest.mark.parametrize("sharing", [True, False])
def test_aborting_some_at_any_time_leaves_the_others_as_they_are(sharing: bool) -> None:
    windows = (None, 20)
    rng = random.Random(3)
    config = SchedulerConfig(max_num_seqs=8, max_num_batched_tokens=64, max_prefill_chunk=7)
    engine = Engine(pools(windows, 2 * BLOCKS), config, sharing)
    requests = some_requests(rng, 60)
    engine.add(requests)
    aborted: set[str] = set()

    def abort_one() -> None:
        victim = rng.choice(requests).request_id
        if rng.random() < 0.1 and engine.scheduler.abort(victim):
            aborted.add(victim)
            engine.scheduler.check_integrity()

    while engine.scheduler.has_work:
        step = engine.schedule()
        abort_one()
        engine.finish(step, between=abort_one)
        abort_one()
    assert engine.kv.pages_used == 0
    assert len(aborted) > 10
    for request in requests:
        expected, output = alone(request, windows), engine.output[request.request_id]
        assert output == expected[: len(output)]
        assert len(output) == len(expected) or request.request_id in aborted


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    windows=st.lists(st.sampled_from([None, 1, 15, 16, 17, 40]), min_size=1, max_size=3),
    spare_blocks=st.integers(0, 8),
    max_num_seqs=st.integers(1, 9),
    budget=st.integers(1, 100),
    chunk=st.sampled_from([1, 7, 64, None]),
    sharing=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_any_limits_give_the_same_tokens(
    windows: list[int | None],
    spare_blocks: int,
    max_num_seqs: int,
    budget: int,
    chunk: int | None,
    sharing: bool,
    seed: int,
) -> None:
    rng = random.Random(seed)
    groups = pools(windows, BLOCKS + spare_blocks)
    engine = Engine(groups, SchedulerConfig(max_num_seqs, budget, chunk), sharing)
    requests = some_requests(rng, 8)
    waiting = list(requests)
    while waiting:  # they come while others run
        engine.add([waiting.pop(0)])
        for _ in range(rng.randint(0, 12)):
            if engine.scheduler.has_work:
                engine.step()
    engine.run()
    assert_as_alone(engine, requests, windows)


def test_window_pages_as_few_as_can_be_still_suffice() -> None:
    windows = (None, 20)
    groups = [KVGroup(BLOCKS), KVGroup(3, window=20)]
    engine = Engine(groups, SchedulerConfig(8, 64))
    requests = some_requests(random.Random(5), 12)
    engine.add(requests)
    engine.run()
    assert_as_alone(engine, requests, windows)


def test_pages_of_sinks_and_window_suffice_for_any_length() -> None:
    sight = Sight(20, 4)
    engine = Engine([KVGroup(4)], SchedulerConfig(8, 64))
    params = SamplingParams(max_tokens=500, ignore_eos=True)
    prompt = tuple(random.Random(3).choices(range(1, VOCAB), k=300))
    engine.add([Request("long", prompt, params, sight=sight)])
    engine.run()
    assert engine.output["long"] == alone(Request("long", prompt, params, sight=sight), (None,))
    with pytest.raises(RequestError, match="need more than all KV pages"):
        engine.add([Request("whole", prompt, params)])
