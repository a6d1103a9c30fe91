from __future__ import annotations

from dataclasses import fields

import pytest
from paged_model import PAGE, Engine, alone

from vivace.cache.blocks import KVGroup
from vivace.core.errors import RequestError, UsageError
from vivace.core.request import Delta, Logprob, Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Advance, Picked, Step
from vivace.scheduler.scheduler import SchedulerConfig

pytestmark = pytest.mark.tiny


def request(name: str, prompt: int | list[int], max_tokens: int = 4, priority: int = 0) -> Request:
    """A prompt given as tokens, or as a length of tokens that no other request has."""
    if isinstance(prompt, int):
        prompt = [1 + hash_of(name)] * prompt
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=True)
    return Request(name, tuple(prompt), params, priority=priority)


def hash_of(name: str) -> int:
    return sum(map(ord, name))


def engine_of(num_pages: int = 100, sharing: bool = True, **limits: int | None) -> Engine:
    return Engine([KVGroup(num_pages)], SchedulerConfig(**limits), sharing)  # type: ignore[arg-type]


def shares(step: Step) -> dict[str, int]:
    return {one.request.request_id: one.count for one in step.sequences}


def test_idle_means_an_empty_step() -> None:
    scheduler = engine_of().scheduler
    assert not scheduler.has_work
    assert scheduler.schedule() == Step(())
    assert scheduler.update(Step(()), [], []) == []


def test_a_prompt_is_computed_in_chunks_and_then_samples() -> None:
    engine = engine_of(max_num_batched_tokens=10)
    engine.add([request("a", 25)])
    counts = []
    for _ in range(4):
        step = engine.schedule()
        counts.append((step.sequences[0].start, step.sequences[0].count, len(step.sampling)))
        engine.finish(step)
    assert counts == [(0, 10, 0), (10, 10, 0), (20, 5, 1), (25, 1, 1)]


def test_decodes_run_in_every_step_beside_a_long_prompt() -> None:
    engine = engine_of(max_num_batched_tokens=8, max_num_seqs=4)
    engine.add([request("x", 3, 50), request("y", 3, 50)])
    engine.step()
    engine.add([request("long", 100, priority=-1)])  # even if it runs before them
    for _ in range(8):
        step = engine.schedule()
        assert shares(step) == {"long": 6, "x": 1, "y": 1}
        engine.finish(step)


def test_prompts_take_little_of_a_step_in_which_others_decode() -> None:
    engine = engine_of(max_num_batched_tokens=100, max_prefill_beside_decodes=10)
    engine.add([request("x", 60, 2)])
    assert shares(engine.schedule()) == {"x": 60}, "nobody waits for a token"
    engine.step()
    engine.add([request("long", 90), request("late", 15)])
    assert shares(engine.schedule()) == {"x": 1, "long": 10}
    engine.step()
    assert shares(engine.schedule()) == {"long": 80, "late": 15}


@pytest.mark.parametrize(("priority", "tokens"), [(-1, 50), (0, 10), (1, 10)])
def test_a_prompt_holds_back_for_streams_of_its_own_or_a_better_priority(
    priority: int, tokens: int
) -> None:
    engine = engine_of(max_num_batched_tokens=100, max_prefill_beside_decodes=10)
    engine.add([request("x", 5, 9)])
    engine.step()
    engine.add([request("y", 50, priority=priority)])
    assert shares(engine.schedule()) == {"x": 1, "y": tokens}


def test_what_a_better_prompt_takes_is_not_left_for_others() -> None:
    engine = engine_of(max_num_batched_tokens=100, max_prefill_beside_decodes=10)
    engine.add([request("x", 5, 9)])
    engine.step()
    engine.add([request("started", 50)])
    engine.step()
    engine.add([request("waits", 50), request("urgent", 30, priority=-1)])
    assert shares(engine.schedule()) == {"urgent": 30, "x": 1, "started": 1}
    engine.step()
    assert shares(engine.schedule()) == {"urgent": 1, "x": 1, "started": 10}


def test_every_running_sequence_gets_a_token_in_every_step() -> None:
    engine = engine_of(max_num_batched_tokens=3, max_num_seqs=64)
    engine.add([request(name, 20) for name in "abcdef"])
    engine.step()
    while engine.scheduler.has_work:
        running = engine.scheduler.num_running
        assert running <= 3
        step = engine.schedule()
        assert len(step.sequences) >= running
        engine.finish(step)


def test_waiting_sequences_start_in_order_of_arrival() -> None:
    engine = engine_of(max_num_seqs=2)
    engine.add([request(name, 5) for name in "cab"])
    assert list(shares(engine.schedule())) == ["c", "a"]
    assert engine.scheduler.num_waiting == 1


def test_a_lower_priority_number_starts_earlier() -> None:
    engine = engine_of(max_num_seqs=2)
    engine.add([request("a", 5, priority=1), request("b", 5), request("c", 5, priority=-1)])
    assert list(shares(engine.schedule())) == ["c", "b"]


@pytest.mark.parametrize("sharing", [True, False])
def test_the_last_in_rank_is_preempted_and_keeps_its_tokens_and_place(sharing: bool) -> None:
    engine = engine_of(num_pages=5, sharing=sharing)
    requests = [request("a", PAGE - 1, 25), request("b", PAGE - 1, 25), request("c", 10, 4)]
    engine.add(requests[:2])
    while not engine.scheduler.counters.preemptions:
        engine.step()
    engine.add(requests[2:])
    assert (engine.scheduler.num_running, engine.scheduler.num_waiting) == (1, 2)
    produced = len(engine.output["b"])
    assert produced > 0
    finished = []
    while engine.scheduler.has_work:
        finished += [delta.request_id for delta in engine.step() if delta.finish_reason]
    assert finished.index("a") == 0
    assert engine.output["b"] == alone(requests[1], [None])
    assert engine.last["b"].num_cached_tokens == 0  # its own pages are no hit
    assert engine.scheduler.counters.prefix_hit_tokens == 0
    assert engine.scheduler.counters.prompt_tokens == 2 * (PAGE - 1) + 10


def test_a_newcomer_is_not_started_where_it_would_soon_be_preempted() -> None:
    engine = engine_of(num_pages=3)
    engine.add([request("a", PAGE, 16), request("b", PAGE + 1, 2)])
    engine.step()
    assert (engine.scheduler.num_running, engine.scheduler.num_waiting) == (1, 1)
    engine.run()
    assert engine.scheduler.counters.preemptions == 0


def test_a_refused_newcomer_starts_as_soon_as_pages_come_back() -> None:
    engine = engine_of(num_pages=6)
    engine.add([request("a", PAGE, 30), request("b", 2 * PAGE, 3), request("c", 2 * PAGE, 3)])
    engine.step()
    assert (engine.scheduler.num_running, engine.scheduler.num_waiting) == (2, 1)
    while "b" not in engine.last or engine.last["b"].finish_reason is None:
        engine.step()
    engine.step()
    assert (engine.scheduler.num_running, engine.scheduler.num_waiting) == (2, 0)


def test_equal_prompts_that_come_together_are_computed_once() -> None:
    engine = engine_of(max_num_batched_tokens=150)
    prompt = list(range(1, 101))
    engine.add([request(name, prompt, 1) for name in "abcd"])
    engine.run()
    # b had begun when a had all; it goes on where a's full pages end
    assert engine.computed == 100 + (50 + 4) + 4 + 4
    assert engine.last["b"].num_cached_tokens == 46
    assert engine.last["d"].num_cached_tokens == 96
    assert len({tuple(tokens) for tokens in engine.output.values()}) == 1


def test_a_repeated_prompt_is_found_and_counted() -> None:
    engine = engine_of()
    prompt = list(range(1, 2 * PAGE + 1))
    engine.add([request("a", prompt)])
    engine.run()
    before = engine.computed
    engine.add([request("b", prompt, 1)])
    engine.run()
    assert engine.computed - before == PAGE
    assert engine.last["b"].num_cached_tokens == PAGE
    assert engine.scheduler.counters.prefix_hit_tokens == PAGE
    assert engine.scheduler.counters.prefix_query_tokens == 4 * PAGE


def test_an_answer_is_found_when_the_conversation_goes_on() -> None:
    engine = engine_of()
    first = request("a", list(range(1, 20)), 40)
    engine.add([first])
    engine.run()
    turn = [*first.prompt_token_ids, *engine.output["a"], 7]
    engine.add([request("b", turn, 1)])
    engine.run()
    # the last token drawn was never computed
    assert engine.last["b"].num_cached_tokens == (len(turn) - 2) // PAGE * PAGE


def test_abort_gives_pages_back_at_once() -> None:
    engine = engine_of(max_num_seqs=1)
    engine.add([request("a", 40), request("b", 40)])
    engine.step()
    assert engine.kv.pages_used == 3
    assert engine.scheduler.abort("a")
    assert engine.scheduler.abort("b")
    assert not engine.scheduler.abort("a")
    assert engine.kv.pages_used == 0
    assert not engine.scheduler.has_work
    engine.scheduler.check_integrity()


def test_results_of_an_aborted_request_go_nowhere_even_if_its_id_is_used_again() -> None:
    engine = engine_of()
    engine.add([request("a", 5), request("b", 5)])
    step = engine.schedule()

    def replace() -> None:
        engine.scheduler.abort("a")
        engine.add([request("a", 30)])

    assert [delta.request_id for delta in engine.finish(step, between=replace)] == ["b"]
    engine.run()
    assert engine.output["a"] == alone(request("a", 30), [None])


def test_a_step_that_failed_is_computed_again() -> None:
    engine = engine_of(max_num_batched_tokens=20)
    requests = [request("a", 30), request("b", 30), request("c", 30)]
    engine.add(requests)
    while engine.scheduler.has_work:
        lost, step = engine.schedule(), engine.schedule()
        assert {**shares(step), **shares(lost)} == shares(step)
        engine.finish(step)
        engine.scheduler.check_integrity()
    for one in requests:
        assert engine.output[one.request_id] == alone(one, [None])


def test_a_step_refers_to_live_lists() -> None:
    engine = engine_of()
    engine.add([request("a", 5)])
    first = engine.schedule()
    engine.finish(first)
    second = engine.schedule()
    assert first.sequences[0].token_ids is second.sequences[0].token_ids
    assert first.sequences[0].block_tables[0] is second.sequences[0].block_tables[0]


def test_a_delta_carries_what_decoding_said() -> None:
    scheduler = engine_of().scheduler
    scheduler.add(request("a", 5))
    step = scheduler.schedule()
    logprobs = {9: Logprob(-0.5, 1)}
    deltas = scheduler.update(
        step, [Picked("a", 9, logprobs)], [Advance("a", "text", "stop", "END")]
    )
    assert deltas == [Delta("a", (9,), "text", (logprobs,), "stop", "END", queue_seconds=0.0)]
    assert not scheduler.has_work


@pytest.mark.parametrize(
    ("refused", "param"),
    [
        (request("big", 60, 6), "max_tokens"),
        (request("a", 5), "request_id"),
        (request("empty", []), "prompt"),
        (Request("open", (1,), SamplingParams(max_tokens=None)), "max_tokens"),
    ],
)
def test_what_can_never_run_is_refused(refused: Request, param: str) -> None:
    engine = engine_of(num_pages=4)
    engine.add([request("a", 60, 5)])
    with pytest.raises(RequestError) as error:
        engine.scheduler.add(refused)
    assert error.value.param == param
    engine.run()
    assert len(engine.output["a"]) == 5


@pytest.mark.parametrize(
    "name", [field.name for field in fields(SchedulerConfig) if "target" not in field.name]
)
def test_limits_below_one_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} must be at least 1"):
        SchedulerConfig(**{name: 0})
