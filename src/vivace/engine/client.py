"""An engine in a process of its own that is kept running: HTTP never competes for its interpreter,
and one that hangs or dies is replaced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import replace
from uuid import uuid4

from vivace.core.config import EngineConfig, modules_text
from vivace.core.errors import BackendError, EngineLostError, VivaceError
from vivace.core.request import Delta, Request
from vivace.core.sampling import SamplingParams
from vivace.core.stats import AdapterInfo, EngineInfo, EngineStats
from vivace.engine.loop import Add, LoadAdapter, Message, Reply, UnloadAdapter
from vivace.engine.notices import Notify
from vivace.engine.process import EngineProcess
from vivace.engine.requests import fan_out
from vivace.engine.streams import Streams

HANG_SECONDS = 120.0
LOOKS = 8  # at the engine within that time
MAX_PAUSE_SECONDS = 60.0  # between two attempts to start it again
_NO_TOKEN = "The engine was loaded, but produces no token; check the checkpoint."
_ONE_TOKEN = SamplingParams(max_tokens=1, temperature=0, ignore_eos=True)


class EngineClient:
    """The engine's methods, awaited from one event loop.

    Where its process ends, or makes no progress for `hang_seconds`, another is started. Requests
    that it had begun to answer end with an error, the others are asked of the next one, and
    `check_health` fails until that one has produced a token.

    Args:
        config: what the engine loads.
        notify: called with lines about the progress of loading, and about what went wrong.
        hang_seconds: longer than any step takes.
    """

    info: EngineInfo

    def __init__(
        self,
        config: EngineConfig,
        notify: Notify | None = None,
        hang_seconds: float = HANG_SECONDS,
    ) -> None:
        self._config = config
        self._notify = notify or (lambda line: None)
        self._hang_seconds = hang_seconds
        self._streams = Streams(self._send)
        self._process: EngineProcess | None = None
        self._trouble: VivaceError | None = EngineLostError("The engine has not been started.")
        self._restarts = 0
        self._proof: asyncio.Future[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Spawn the process and wait until the model is loaded and has produced a token.

        Raises:
            VivaceError: what the engine could not do, as it said it.
        """
        self.info = await self._begin()
        # Another process must serve what this one promised, whatever memory is free by then.
        self._config = replace(self._config, max_model_len=self.info.max_model_len)
        self._run(self._watch())

    def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """A request's deltas. Closing the iterator early aborts it within one step."""
        return self._streams.stream(request)

    async def abort(self, request_id: str) -> None:
        self._streams.abort(request_id)

    async def unpin(self, pin_id: str) -> None:
        """Let a pinned prefix be evicted again; unknown ids are ignored."""
        self._streams.unpin(pin_id)

    async def reset_prefix_cache(self) -> None:
        """Forget every computed prefix but those that are in use or pinned."""
        self._streams.reset_prefix_cache()

    async def load_adapter(self, name: str, path: str) -> tuple[AdapterInfo, ...]:
        """Take in a LoRA adapter; those that take requests then. Raises VivaceError."""
        return self._holding(await self._streams.change_adapters(LoadAdapter(name, path)))

    async def unload_adapter(self, name: str) -> tuple[AdapterInfo, ...]:
        """Take no further requests for an adapter; those that still do. Raises VivaceError."""
        return self._holding(await self._streams.change_adapters(UnloadAdapter(name)))

    def _holding(self, adapters: tuple[AdapterInfo, ...]) -> tuple[AdapterInfo, ...]:
        """Another process would have to load the same."""
        modules = modules_text({one.name: one.path for one in adapters})
        self._config = replace(self._config, lora_modules=modules)
        return adapters

    async def stats(self) -> EngineStats:
        """Counted since the process was started, but for `restarts`. Among `pins` are those that
        are computed again.

        Raises:
            EngineLostError: as `check_health`.
        """
        await self.check_health()
        stats = await self._streams.stats()
        pins = dict.fromkeys((*stats.pins, *self._streams.pins.ids))
        return replace(stats, restarts=self._restarts, pins=tuple(pins))

    async def check_health(self) -> None:
        """Raises:
        EngineLostError: the process ended or hung, and no other has produced a token yet.
        """
        if self._trouble is not None:
            raise self._trouble

    def kill(self) -> None:
        """End the process at once; another is started, unless this is being closed."""
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """Stop the process; open streams end with an error."""
        self._trouble = EngineLostError("The engine was stopped.")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._process is not None:
            await self._process.stop()
        self._streams.fail(self._trouble)

    async def _begin(self) -> EngineInfo:
        """A new process, which has produced a token.

        Raises:
            VivaceError: it could not be loaded, ended, or was silent.
        """
        process = EngineProcess(self._config, self._notify, self._deliver, self._lost)
        self._process = process
        try:
            info = await process.start()
            await self._prove(info, process)
        except BaseException:
            process.kill()
            raise
        self._trouble = None
        return info

    async def _prove(self, info: EngineInfo, process: EngineProcess) -> None:
        (request,) = fan_out(info, f"alive-{uuid4().hex}", [0], _ONE_TOKEN)
        self._proof = asyncio.get_running_loop().create_future()
        process.send(Add(request))
        try:
            await asyncio.wait_for(self._proof, self._hang_seconds)
        except asyncio.TimeoutError:
            seconds = f"It was silent for {self._hang_seconds:.0f} seconds."
            raise BackendError(f"{_NO_TOKEN} {seconds}") from None
        finally:
            self._proof = None

    async def _revive(self) -> None:
        """Start another process, again and again until one works."""
        pause = 1.0
        while True:
            assert self._process is not None
            await self._process.stop()
            try:
                await self._begin()
            except VivaceError as error:
                self._notify(f"{error} The next attempt to start it is in {pause:.0f} seconds.")
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
                continue
            self._restarts += 1
            self._notify("The engine works again.")
            self._streams.ask_again()
            return

    async def _watch(self) -> None:
        """Kill a process that hangs: one that does not answer, or that has work and makes no
        step. What takes long while it is started is loading."""
        steps, moved = -1, time.monotonic()
        while True:
            await asyncio.sleep(self._hang_seconds / LOOKS)
            try:
                stats = await asyncio.wait_for(self.stats(), self._hang_seconds)
            except asyncio.TimeoutError:
                self._give_up()
                continue
            except VivaceError:
                stats = EngineStats()
            if stats.steps != steps or not (stats.running or stats.waiting):
                steps, moved = stats.steps, time.monotonic()
            elif time.monotonic() - moved > self._hang_seconds:
                self._give_up()

    def _give_up(self) -> None:
        if self._trouble is None:
            self._trouble = EngineLostError(
                f"The engine made no progress for {self._hang_seconds:.0f} seconds, and is being "
                "started again."
            )
            self.kill()

    def _send(self, message: Message) -> None:
        """What nobody can take now is asked again later (`Streams.ask_again`), or done with."""
        if self._process is not None and self._trouble is None:
            self._process.send(message)

    def _deliver(self, reply: Reply) -> None:
        proof = self._proof
        if proof is None or not isinstance(reply, list):
            self._streams.deliver(reply)
            return
        for delta in reply:  # nothing else runs yet
            if delta.error is not None and not proof.done():
                proof.set_exception(BackendError(f"{_NO_TOKEN} {delta.error}"))
            elif delta.token_ids and not proof.done():
                proof.set_result(None)

    def _lost(self) -> None:
        trouble = self._trouble or EngineLostError(
            "The engine process ended unexpectedly, and is being started again."
        )
        if self._proof is not None:  # who started it knows what to do
            if not self._proof.done():
                self._proof.set_exception(BackendError("The engine ended at its first token."))
            return
        self._trouble = trouble
        self._notify(str(trouble))
        self._streams.interrupt(trouble)
        self._run(self._revive())

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
