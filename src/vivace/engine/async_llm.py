"""An engine in a thread of this process, for asyncio callers."""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from typing import Any
from uuid import uuid4

from vivace.core.config import EngineConfig
from vivace.core.errors import BackendError, RequestError, VivaceError
from vivace.core.request import Delta, LoRARequest, Request, RequestOutput
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineStats
from vivace.engine import loop
from vivace.engine.build import build_engine
from vivace.engine.frontend import Frontend, KnownAdapters
from vivace.engine.notices import Notify, to_standard_error
from vivace.engine.outputs import Collector
from vivace.engine.prompts import Prompt
from vivace.engine.streams import Streams


class AsyncLLM:
    """Requests from many tasks of one event loop share one engine.

    Takes the fields of `EngineConfig` as keywords.

    Raises:
        VivaceError: the model could not be loaded.
    """

    def __init__(
        self, model: str | None = None, *, notify: Notify = to_standard_error, **options: Any
    ) -> None:
        self._core = build_engine(EngineConfig(model, **options), notify)
        self._frontend = Frontend(self._core.info)
        self.info = self._core.info
        self.tokenizer = self._frontend.tokenizer
        self._inbox: queue.SimpleQueue[loop.Message] = queue.SimpleQueue()
        self._streams = Streams(self._inbox.put)
        self._adapters = KnownAdapters()
        self._loading = asyncio.Lock()  # of adapters
        self._thread: threading.Thread | None = None
        self._open: dict[str, tuple[str, ...]] = {}  # a caller's id to its requests' ids

    async def generate(
        self,
        prompt: Prompt,
        sampling_params: SamplingParams | None = None,
        request_id: str | None = None,
        lora_request: LoRARequest | None = None,
    ) -> AsyncIterator[RequestOutput]:
        """The growing result, yielded after every step that adds to it.

        Closing the iterator aborts the request. The same object is yielded each time. An adapter
        that is not loaded is loaded first.
        """
        request_id = request_id or uuid4().hex
        adapter = await self._adapter(lora_request)
        if request_id in self._open:
            raise RequestError(f"request_id {request_id!r} is in use.", "request_id")
        text, requests = self._frontend.requests(request_id, prompt, sampling_params, adapter)
        collector = Collector(request_id, text, requests)
        self._open[request_id] = collector.request_ids
        try:
            async with aclosing(self._merged(requests)) as deltas:
                async for delta in deltas:
                    yield collector.take(delta)
        finally:
            del self._open[request_id]

    async def abort(self, request_id: str) -> None:
        """End a request from outside; its stream ends with the finish reason "abort"."""
        for part in self._open.get(request_id, ()):
            self._streams.abort(part)

    async def unload_adapter(self, name: str) -> None:
        """Take no further requests for a LoRA adapter. Raises RequestError for an unknown name."""
        self._start()
        await self._streams.change_adapters(loop.UnloadAdapter(name))
        self._adapters.remove(name)

    async def stats(self) -> EngineStats:
        self._start()
        return await self._streams.stats()

    async def close(self) -> None:
        """Stop the thread; open streams end with an error."""
        if self._thread is not None:
            self._inbox.put(loop.Stop())
            await asyncio.to_thread(self._thread.join)
            self._thread = None

    async def _adapter(self, asked: LoRARequest | None) -> str | None:
        """Its name, once it is loaded."""
        if asked is None:
            return None
        self._start()
        async with self._loading:
            if self._adapters.is_new(asked):
                change = loop.LoadAdapter(asked.lora_name, asked.lora_path)
                await self._streams.change_adapters(change)
                self._adapters.add(asked)
        return asked.lora_name

    async def _merged(self, requests: Sequence[Request]) -> AsyncGenerator[Delta, None]:
        """Deltas of all requests as they come."""
        self._start()
        merged: asyncio.Queue[Delta] = asyncio.Queue()

        async def pump(request: Request) -> None:
            async with aclosing(self._streams.stream(request)) as deltas:
                async for delta in deltas:
                    merged.put_nowait(delta)

        tasks = [asyncio.create_task(pump(request)) for request in requests]
        try:
            running = len(tasks)
            while running:
                delta = await merged.get()
                running -= delta.finish_reason is not None
                yield delta
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self) -> None:
        """The first call fixes the event loop that all others must come from."""
        if self._thread is None:
            channel = _ThreadChannel(self._inbox, asyncio.get_running_loop(), self._streams)
            self._thread = threading.Thread(
                target=self._serve, args=(channel,), daemon=True, name="engine"
            )
            self._thread.start()

    def _serve(self, channel: _ThreadChannel) -> None:
        """The thread. However it ends, nobody is left waiting."""
        error: VivaceError = BackendError("The engine was closed.")
        try:
            loop.run(self._core, channel)
        except Exception as failure:
            logging.getLogger("vivace").exception("The engine ended.")
            error = BackendError(f"The engine ended by {failure!r}; make a new one.")
        finally:
            channel.call(self._streams.fail, error)


class _ThreadChannel:
    """A `Channel` between the engine's thread and an event loop."""

    def __init__(
        self,
        inbox: queue.SimpleQueue[loop.Message],
        event_loop: asyncio.AbstractEventLoop,
        streams: Streams,
    ) -> None:
        self._inbox = inbox
        self._event_loop = event_loop
        self._streams = streams

    def receive(self, timeout: float | None) -> Iterator[loop.Message]:
        with suppress(queue.Empty):
            while True:
                yield self._inbox.get(timeout=timeout)
                timeout = 0.0

    def send(self, reply: loop.Reply) -> None:
        self.call(self._streams.deliver, reply)

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Call on the event loop, unless that is gone and with it whoever waited."""
        with suppress(RuntimeError):
            self._event_loop.call_soon_threadsafe(function, *args)
