"""Prompts whose own positions are read: each once, in order, and never out of the cache."""

from __future__ import annotations

import random

import pytest
from paged_model import PAGE, Engine, alone

from vivace.cache.blocks import KVGroup
from vivace.core.request import Pooling, Request
from vivace.core.sampling import SamplingParams
from vivace.scheduler.scheduler import SchedulerConfig

pytestmark = pytest.mark.tiny


def scoring(name: str, prompt: list[int], max_tokens: int = 1) -> Request:
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True, prompt_logprobs=0)
    return Request(name, tuple(prompt), params)


def plain(name: str, prompt: list[int], max_tokens: int = 1) -> Request:
    return Request(name, tuple(prompt), SamplingParams(max_tokens=max_tokens, ignore_eos=True))


def engine_of(num_pages: int = 100, **limits: int) -> Engine:
    return Engine([KVGroup(num_pages)], SchedulerConfig(**limits))


def test_each_prompt_token_but_the_first_is_scored_once() -> None:
    engine = engine_of(max_num_batched_tokens=10)
    prompt = list(range(1, 26))
    engine.add([scoring("a", prompt, 3)])
    engine.run()
    assert engine.scored["a"] == prompt[1:]
    assert engine.output["a"] == alone(scoring("a", prompt, 3), [None])


def test_a_prompt_of_one_token_has_nothing_to_score() -> None:
    engine = engine_of()
    engine.add([scoring("a", [7])])
    engine.run()
    assert engine.scored["a"] == []


def test_what_the_cache_knows_is_computed_all_the_same() -> None:
    engine = engine_of()
    prompt = list(range(3 * PAGE))
    engine.add([plain("before", prompt)])
    engine.run()
    engine.add([scoring("a", prompt), plain("after", prompt)])
    engine.run()
    assert engine.scored["a"] == prompt[1:]
    assert engine.last["a"].num_cached_tokens == 0
    assert engine.last["after"].num_cached_tokens == 2 * PAGE
    assert engine.scheduler.counters.prefix_query_tokens == 2 * 3 * PAGE


def test_what_a_scored_prompt_computed_is_found_by_others() -> None:
    engine = engine_of()
    prompt = list(range(3 * PAGE))
    engine.add([scoring("a", prompt)])
    engine.run()
    engine.add([plain("after", prompt)])
    engine.run()
    assert engine.last["after"].num_cached_tokens == 2 * PAGE


def test_rows_of_logits_bound_a_chunk_that_is_scored_and_no_other() -> None:
    engine = engine_of(max_scoring_rows=8)
    engine.add([plain("x", [9] * 30), scoring("a", list(range(20))), scoring("b", [5] * 20)])
    step = engine.schedule()
    assert [one.count for one in step.sequences] == [30, 8, 1]
    engine.finish(step)
    engine.run()
    assert engine.scored["a"] == list(range(1, 20))
    assert engine.scored["b"] == [5] * 19


def pooling(name: str, prompt: list[int], how: Pooling) -> Request:
    return Request(name, tuple(prompt), SamplingParams(max_tokens=1), pooling=how)


@pytest.mark.parametrize(("how", "read"), [("mean", range(40)), ("last", range(39, 40))])
def test_what_is_pooled_is_read_once_and_draws_nothing(how: Pooling, read: range) -> None:
    engine = engine_of(max_num_batched_tokens=7)
    engine.add([pooling("a", [3] * 40, how)])
    engine.run()
    assert engine.read["a"] == list(read)
    assert engine.output["a"] == []
    assert engine.last["a"].embedding == (1.0,)
    assert engine.last["a"].finish_reason == "stop"


def test_only_a_mean_needs_what_the_cache_knows_computed_again() -> None:
    engine = engine_of()
    prompt = list(range(3 * PAGE))
    engine.add([plain("before", prompt)])
    engine.run()
    engine.add([pooling("mean", prompt, "mean"), pooling("last", prompt, "last")])
    engine.run()
    assert engine.last["mean"].num_cached_tokens == 0
    assert engine.last["last"].num_cached_tokens == 2 * PAGE
    assert engine.read["mean"] == prompt
    assert engine.read["last"] == prompt[-1:]


@pytest.mark.parametrize("seed", range(8))
def test_preemption_scores_nothing_twice_and_loses_nothing(seed: int) -> None:
    rng = random.Random(seed)
    engine = engine_of(7, max_num_batched_tokens=24, max_scoring_rows=11, max_num_seqs=5)
    requests = []
    for number in range(16):
        prompt = [rng.randrange(1, 4) for _ in range(rng.randrange(1, 4 * PAGE))]
        if number % 4 == 0:
            requests.append(pooling(f"r{number}", prompt, "mean"))
        else:
            make = rng.choice([plain, scoring])
            requests.append(make(f"r{number}", prompt, rng.randrange(20, 40)))
    engine.add(requests)
    engine.run()
    assert engine.scheduler.counters.preemptions > 0
    for request in requests:
        if request.pooling is not None:
            assert engine.read[request.request_id] == list(range(len(request.prompt_token_ids)))
            continue
        assert engine.output[request.request_id] == alone(request, [None])
        wanted = request.params.prompt_logprobs is not None
        prompt = list(request.prompt_token_ids)
        assert engine.scored[request.request_id] == (prompt[1:] if wanted else [])
