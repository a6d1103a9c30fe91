"""An engine whose process dies or hangs is replaced; who was not begun is answered all the same."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.engine.tiny import write_tiny_llama
from vivace.core.config import EngineConfig
from vivace.core.errors import BackendError, EngineLostError
from vivace.core.request import Delta
from vivace.core.sampling import SamplingParams
from vivace.engine.client import EngineClient
from vivace.engine.requests import fan_out

PROMPT = list(range(1, 40))
HANG_SECONDS = 1.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny"))


@asynccontextmanager
async def started(folder: Path, **options: object) -> AsyncIterator[EngineClient]:
    config = EngineConfig(str(folder), backend="reference", **options)  # type: ignore[arg-type]
    client = EngineClient(config, hang_seconds=HANG_SECONDS)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def answer(client: EngineClient, name: str, max_tokens: int) -> list[Delta]:
    params = SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True)
    (request,) = fan_out(client.info, name, PROMPT, params)
    async with aclosing(client.stream(request)) as deltas:
        return [delta async for delta in deltas]


def tokens(deltas: list[Delta]) -> list[int]:
    return [token for delta in deltas for token in delta.token_ids]


async def healthy(client: EngineClient) -> bool:
    try:
        await client.check_health()
    except EngineLostError:
        return False
    return True


async def until(holds: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.01)


def process_of(client: EngineClient) -> psutil.Process:
    assert client._process is not None
    return psutil.Process(client._process._process.pid)


def kill(engine: psutil.Process) -> None:
    engine.kill()


def freeze(engine: psutil.Process) -> None:
    """As a kernel that never returns: it lives, and answers nothing."""
    os.kill(engine.pid, signal.SIGSTOP)


@pytest.mark.parametrize("harm", [kill, freeze])
def test_who_was_begun_is_told_and_who_waits_is_answered(
    folder: Path, harm: Callable[[psutil.Process], None]
) -> None:
    async def run() -> None:
        async with started(folder, max_num_seqs=1) as client:
            expected = tokens(await answer(client, "alone", 5))
            (endless,) = fan_out(client.info, "r", PROMPT, SamplingParams(max_tokens=200))
            async with aclosing(client.stream(endless)) as deltas:
                await anext(deltas)
                waiting = [asyncio.create_task(answer(client, f"w{n}", 5)) for n in range(3)]
                await asyncio.sleep(0)
                harm(process_of(client))
                last = [delta async for delta in deltas][-1]
            assert (last.finish_reason, last.error_code) == ("error", "engine_unavailable")
            assert not await healthy(client)
            assert [tokens(await one) for one in waiting] == [expected] * 3
            assert await healthy(client)
            stats = await client.stats()
            assert (stats.restarts, stats.running, stats.waiting, stats.pages_used) == (1, 0, 0, 0)

    asyncio.run(run())


def test_pins_outlive_an_engine(folder: Path) -> None:
    async def run() -> None:
        async with started(folder) as client:
            params = SamplingParams(max_tokens=1, temperature=0, ignore_eos=True)
            for name in ("kept", "let go"):
                (request,) = fan_out(client.info, name, PROMPT, params)
                async with aclosing(client.stream(replace(request, pin_id=name))) as deltas:
                    assert [delta.error async for delta in deltas] == [None]
            await client.unpin("let go")
            before = await client.stats()
            assert (before.pins, before.pages_pinned) == (("kept",), 2)
            first = process_of(client)
            client.kill()
            await until(lambda: _other(client, first))
            await until(lambda: _pinned(client, 2))
            after = await client.stats()
            assert (after.pins, after.restarts) == (("kept",), 1)
            assert (await answer(client, "r", 3))[0].num_cached_tokens == 32
            await client.unpin("kept")
            assert (await client.stats()).pages_pinned == 0
            assert (await client.stats()).pins == ()

    asyncio.run(run())


async def _pinned(client: EngineClient, pages: int) -> bool:
    try:
        return (await client.stats()).pages_pinned == pages
    except EngineLostError:
        return False


def test_an_engine_that_hangs_while_idle_is_found_out(folder: Path) -> None:
    async def run() -> None:
        async with started(folder) as client:
            first = process_of(client)
            await asyncio.sleep(1.5 * HANG_SECONDS)
            assert await healthy(client)  # idleness is no hang
            freeze(first)
            await until(lambda: _other(client, first))
            assert len(await answer(client, "r", 3)) == 3

    asyncio.run(run())


async def _other(client: EngineClient, first: psutil.Process) -> bool:
    return await healthy(client) and process_of(client).pid != first.pid


def test_what_cannot_be_started_again_is_tried_again(folder: Path) -> None:
    async def run() -> None:
        lines: list[str] = []
        config = EngineConfig(str(folder), backend="reference")
        client = EngineClient(config, lines.append, HANG_SECONDS)
        await client.start()
        (folder / "config.json").rename(folder / "away.json")
        try:
            client.kill()
            await until(lambda: _said(lines, "next attempt"))
            assert not await healthy(client)
        finally:
            (folder / "away.json").rename(folder / "config.json")
        await until(lambda: healthy(client))
        assert lines[-1] == "The engine works again."
        await client.close()
        with pytest.raises(EngineLostError, match="stopped"):
            await client.check_health()

    asyncio.run(run())


async def _said(lines: list[str], part: str) -> bool:
    return any(part in line for line in lines)


def test_closing_ends_a_frozen_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivace.engine.process.STOP_SECONDS", 0.1)

    async def run() -> None:
        async with started(folder) as client:
            engine = process_of(client)
            freeze(engine)
        assert not engine.is_running()

    asyncio.run(run())


def test_an_engine_without_a_token_is_not_started(folder: Path, tmp_path: Path) -> None:
    broken = write_tiny_llama(tmp_path / "broken", rms_norm_eps=float("nan"))

    async def run() -> None:
        with pytest.raises(BackendError, match="produces no token"):
            async with started(broken):
                raise AssertionError

    asyncio.run(run())
