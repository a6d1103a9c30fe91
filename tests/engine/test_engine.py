"""The engine end to end on a tiny random model: what surrounds a request never changes it."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.engine.tiny import write_tiny_llama
from vivace import LLM, AsyncLLM, SamplingParams
from vivace.cache.prefix import IntegrityError
from vivace.core.config import EngineConfig
from vivace.core.errors import (
    BackendError,
    CapacityError,
    RequestError,
    UsageError,
)
from vivace.core.request import Delta
from vivace.core.step import Step
from vivace.engine import loop
from vivace.engine.build import build_engine
from vivace.engine.client import EngineClient
from vivace.engine.core import EngineCore
from vivace.engine.requests import fan_out

PROMPT = list(range(1, 40))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def llm(folder: Path) -> LLM:
    return LLM(str(folder), backend="reference")


def greedy_by_logits(llm: LLM, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(llm.logits(tokens)[-1].argmax()))
    return tokens[len(prompt) :]


def test_generation_is_the_argmax_of_the_logits(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    (output,) = llm.generate(PROMPT, params)
    assert output.outputs[0].token_ids == greedy_by_logits(llm, PROMPT, 6)
    assert output.outputs[0].finish_reason == "length"
    assert output.prompt_token_ids == PROMPT


def test_logits_have_a_row_per_token_and_leave_no_pages_behind(llm: LLM) -> None:
    tokens = [token % 199 for token in range(150)]
    logits = llm.logits(tokens)
    assert logits.shape == (150, 199)
    np.testing.assert_allclose(llm.logits(tokens[:70]), logits[:70], atol=1e-4)
    assert llm.stats().pages_used == 0
    with pytest.raises(RequestError):
        llm.logits([])


def test_n_completions_share_the_prompt_and_differ(llm: LLM) -> None:
    params = SamplingParams(n=3, seed=5, max_tokens=8, ignore_eos=True, logprobs=2)
    (output,) = llm.generate(PROMPT, params)
    answers = {tuple(one.token_ids) for one in output.outputs}
    assert len(answers) == 3
    again = llm.generate(PROMPT, params)[0]
    assert [one.token_ids for one in again.outputs] == [one.token_ids for one in output.outputs]
    first = output.outputs[0]
    assert first.logprobs is not None
    assert len(first.logprobs) == 8
    expected = llm.logits(PROMPT)[-1].astype(np.float64)
    expected -= np.log(np.exp(expected - expected.max()).sum()) + expected.max()
    found = first.logprobs[0][first.token_ids[0]].logprob
    assert found == pytest.approx(expected[first.token_ids[0]], abs=1e-4)


def test_one_call_at_a_time_and_bad_requests_start_nothing(llm: LLM) -> None:
    stream = llm.stream(PROMPT, SamplingParams(max_tokens=50, ignore_eos=True))
    next(stream)
    with pytest.raises(UsageError, match="AsyncLLM"):
        llm.generate(PROMPT)
    stream.close()
    assert llm.stats().pages_used == 0
    with pytest.raises(RequestError):
        llm.generate([PROMPT, [1000]])
    with pytest.raises(RequestError, match="no tokenizer"):
        llm.generate("text")
    assert not llm.stats().waiting


def test_not_enough_memory_for_one_sequence_is_said_before_loading(folder: Path) -> None:
    with pytest.raises(CapacityError, match="max_model_len"):
        LLM(str(folder), backend="reference", kv_memory_bytes=1000, max_model_len=64)
    with pytest.raises(UsageError, match="backend"):
        LLM(str(folder), backend="abacus")  # type: ignore[arg-type]


async def first_deltas(client: EngineClient, count: int) -> list[Delta]:
    params = SamplingParams(max_tokens=200, ignore_eos=True)
    (request,) = fan_out(client.info, f"r{count}", PROMPT, params)
    found = []
    async with aclosing(client.stream(request)) as deltas:
        async for delta in deltas:
            found.append(delta)
            if len(found) == count:
                break
    return found


def test_an_async_engine_serves_many_and_frees_whoever_leaves(folder: Path, llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=6, ignore_eos=True)
    expected = llm.generate(PROMPT, params)[0].outputs[0].token_ids

    async def run() -> None:
        engine = AsyncLLM(str(folder), backend="reference")

        async def ask() -> list[int]:
            async for output in engine.generate(PROMPT, params):
                tokens = output.outputs[0].token_ids
            return tokens

        assert await asyncio.gather(*(ask() for _ in range(8))) == [expected] * 8
        endless = SamplingParams(max_tokens=200, ignore_eos=True)
        async with aclosing(engine.generate(PROMPT, endless)) as outputs:  # type: ignore[type-var]
            async for _ in outputs:
                break
        await asyncio.sleep(0.1)
        stats = await engine.stats()
        assert (stats.running, stats.waiting, stats.pages_used) == (0, 0, 0)
        await engine.close()

    asyncio.run(run())


def test_an_engine_in_its_own_process_streams_aborts_and_stops(folder: Path) -> None:
    async def run() -> None:
        client = EngineClient(EngineConfig(str(folder), backend="reference"))
        await client.start()
        found = await asyncio.gather(*(first_deltas(client, count) for count in (3, 5, 200)))
        assert [len(deltas) for deltas in found] == [3, 5, 200]
        assert found[2][-1].finish_reason == "length"
        stats = await client.stats()
        assert (stats.running, stats.pages_used) == (0, 0)
        await client.check_health()
        await client.close()
        with pytest.raises(BackendError):
            await client.check_health()

    asyncio.run(run())


class IdleChannel:
    """Sends one request and nothing more; stops the loop once it has been idle."""

    def __init__(self, core: EngineCore) -> None:
        (request,) = fan_out(core.info, "r", PROMPT, SamplingParams(max_tokens=2))
        self.messages: list[loop.Message] = [loop.Add(request)]
        self.timeouts: list[float | None] = []

    def receive(self, timeout: float | None) -> list[loop.Message]:
        self.timeouts.append(timeout)
        if self.timeouts.count(None) == 2:
            return [loop.Stop()]
        sent, self.messages = self.messages, []
        return sent

    def send(self, reply: loop.Reply) -> None:
        pass


def test_an_idle_engine_checks_its_books_once(folder: Path) -> None:
    core = build_engine(EngineConfig(str(folder), backend="reference"))
    channel = IdleChannel(core)
    loop.run(core, channel)
    assert channel.timeouts == [None, 0.0, loop.IDLE_SECONDS, None]
    page = core.scheduler._kv._books.pools[0].take()  # a page that nobody will give back
    channel = IdleChannel(core)
    with pytest.raises(IntegrityError, match=f"Page {page}"):
        loop.run(core, channel)


def test_what_an_engine_process_could_not_do_is_said_here(tmp_path: Path) -> None:
    async def run() -> None:
        with pytest.raises(Exception, match=r"config\.json"):
            await EngineClient(EngineConfig(str(tmp_path))).start()

    asyncio.run(run())


ENDLESS = SamplingParams(max_tokens=200, ignore_eos=True)


def test_an_async_request_can_be_aborted_whole_and_its_id_is_its_own(folder: Path) -> None:
    async def run() -> None:
        engine = AsyncLLM(str(folder), backend="reference")
        params = replace(ENDLESS, n=2)
        outputs = engine.generate(PROMPT, params, request_id="x")
        await anext(outputs)
        with pytest.raises(RequestError, match="in use"):
            await anext(engine.generate(PROMPT, request_id="x"))
        await engine.abort("x")
        async for output in outputs:
            last = output
        assert {one.finish_reason for one in last.outputs} == {"abort"}
        await engine.close()

    asyncio.run(run())


def test_a_step_that_trips_ends_its_requests_and_the_engine_goes_on(folder: Path) -> None:
    llm = LLM(str(folder), backend="reference")
    core = llm._core

    def trip(step: Step) -> NDArray[np.float32]:
        raise ZeroDivisionError("tripped")

    good, core._runner.run = core._runner.run, trip  # type: ignore[method-assign]
    (output,) = llm.generate(PROMPT)
    assert output.outputs[0].finish_reason == "error"
    assert "tripped" in (output.outputs[0].error or "")
    core._runner.run = good  # type: ignore[method-assign]
    assert llm.generate(PROMPT)[0].outputs[0].finish_reason == "length"
    core.check_integrity()


def test_when_the_engine_thread_ends_nobody_waits_for_ever(folder: Path) -> None:
    async def run() -> None:
        engine = AsyncLLM(str(folder), backend="reference")
        outputs = engine.generate(PROMPT, ENDLESS)
        await anext(outputs)
        engine._core.scheduler.schedule = None  # type: ignore[assignment,method-assign]
        async for output in outputs:
            last = output
        assert last.outputs[0].finish_reason == "error"
        async for output in engine.generate(PROMPT, ENDLESS):
            assert output.outputs[0].finish_reason == "error"
        await engine.close()

    asyncio.run(asyncio.wait_for(run(), 20))
