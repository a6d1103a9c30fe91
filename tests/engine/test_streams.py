"""The callers' end of an engine: late readers, and engines that are lost."""

from __future__ import annotations

import asyncio

import pytest

from vivace.core.errors import EngineLostError
from vivace.core.request import Delta, Logprob, Request
from vivace.engine.delta_queue import MAX_APART, MAX_TOGETHER, DeltaQueue, together
from vivace.engine.loop import Abort, Add, Message, Unpin
from vivace.engine.streams import MAX_ASKED, Streams

pytestmark = pytest.mark.tiny
LOST = EngineLostError("gone")


def token(number: int, name: str = "r") -> Delta:
    return Delta(name, (number,), f"{number} ", ({number: Logprob(-1.0, 1)},))


def test_late_readers_get_everything_in_few_pieces() -> None:
    queue = DeltaQueue()
    count = 10 * MAX_APART + 4 * MAX_TOGETHER
    for number in range(count):
        queue.put(token(number))
    queue.put(Delta("r", finish_reason="stop", stop_reason="x", num_cached_tokens=3))
    assert len(queue) <= MAX_APART + count // MAX_TOGETHER + 1

    async def read() -> list[Delta]:
        return [await queue.get() for _ in range(len(queue))]

    deltas = asyncio.run(read())
    assert [t for delta in deltas for t in delta.token_ids] == list(range(count))
    assert "".join(delta.text for delta in deltas) == "".join(f"{n} " for n in range(count))
    assert [t for delta in deltas for one in delta.logprobs or () for t in one] == [*range(count)]
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    last = deltas[-1]
    assert (last.finish_reason, last.stop_reason, last.num_cached_tokens) == ("stop", "x", 3)


def test_two_deltas_together_say_what_each_said() -> None:
    scores = ({7: Logprob(-2.0, 1)},)
    first = Delta("r", prompt_logprobs=scores, queue_seconds=0.5, num_cached_tokens=4)
    both = together(together(first, Delta("r", (1,), "a", prompt_logprobs=scores)), token(2))
    assert (both.token_ids, both.text) == ((1, 2), "a2 ")
    assert both.prompt_logprobs == scores + scores
    assert (both.queue_seconds, both.num_cached_tokens) == (0.5, 4)
    assert both.logprobs == ({2: Logprob(-1.0, 1)},)


def test_what_was_not_begun_is_asked_of_the_next_engine() -> None:
    async def run() -> None:
        sent: list[Message] = []
        streams = Streams(sent.append)
        begun, waits, leaves = (streams.stream(Request(name, (1,))) for name in "abc")
        first = asyncio.create_task(anext(begun))
        others = [asyncio.create_task(anext(one)) for one in (waits, leaves)]
        await asyncio.sleep(0)
        streams.deliver([token(1, "a")])
        await first
        streams.interrupt(LOST)
        failed = await anext(begun)
        assert (failed.finish_reason, failed.error_code) == ("error", "engine_unavailable")
        others[1].cancel()
        await asyncio.gather(others[1], return_exceptions=True)
        sent.clear()
        streams.ask_again()
        assert sent == [Add(Request("b", (1,)))]
        streams.deliver([token(2, "b")])
        assert (await others[0]).token_ids == (2,)
        await waits.aclose()
        assert sent[-1] == Abort("b")

    asyncio.run(run())


def test_pins_are_asked_for_again_until_they_are_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        sent: list[Message] = []
        streams = Streams(sent.append)
        asked = {name: Request(name, (1,), pin_id=f"pin {name}") for name in "abcd"}
        ends = {"a": "length", "b": "length", "c": "abort", "d": "stop"}
        for name, reason in ends.items():
            stream = streams.stream(asked[name])
            first = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            streams.deliver([Delta(name, finish_reason=reason)])
            await first
            await stream.aclose()
        streams.unpin("pin d")
        assert streams.pins.ids == ("pin a", "pin b")
        sent.clear()
        streams.interrupt(LOST)
        streams.ask_again()
        assert sent == [Add(asked["a"]), Add(asked["b"])]
        streams.deliver([token(1, "a"), Delta.failed("b", LOST)])
        assert streams.pins.ids == ("pin a",)
        streams.unpin("pin a")  # which may still be computed
        assert sent[2:] == [Abort("a"), Unpin("pin a")]
        streams.ask_again()
        assert len(sent) == 4

    asyncio.run(run())
    assert "pin b could not be pinned again: gone" in caplog.text


def test_a_request_that_outlives_several_engines_is_given_up() -> None:
    async def run() -> int:
        streams = Streams(lambda message: None)
        waiting = asyncio.create_task(anext(streams.stream(Request("r", (1,)))))
        for asked in range(1, 10):
            await asyncio.sleep(0)
            streams.interrupt(LOST)
            await asyncio.sleep(0)
            if waiting.done():
                assert waiting.result().error_code == "engine_unavailable"
                return asked
            streams.ask_again()
        raise AssertionError("asked for ever")

    assert asyncio.run(run()) == MAX_ASKED
