"""Runs a file of requests through the server's own API, without a network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from vivace.core.config import EngineConfig
from vivace.engine.client import EngineClient
from vivace.engine.notices import Notify
from vivace.serve.app import create_app
from vivace.serve.batch_lines import Answers, Line, read_lines
from vivace.serve.options import ServeOptions
from vivace.text.chat import load_chat_template
from vivace.text.tokenizer import load_tokenizer

_AHEAD = 2  # calls per sequence that may run: the next are tokenized while these compute


@dataclass(frozen=True)
class BatchResult:
    """Attributes:
    lines: of the input.
    kept: answered by a run before.
    failed: answered with an error, then or now.
    """

    lines: int
    kept: int
    failed: int


def run_batch(
    config: EngineConfig,
    options: ServeOptions,
    source: Path,
    target: Path,
    notify: Notify,
    progress: Callable[[int, int], None],
) -> BatchResult:
    """Answer every line of `source` in `target`, in the order in which they end.

    Run again after an interruption, it goes on where it stood.

    Args:
        progress: is told (lines done, lines).

    Raises:
        UsageError: a file cannot be read or written, or is of something else.
        BackendError: the engine ended; what was answered is kept.
        VivaceError: the model could not be loaded.
    """
    lines, answers = read_lines(source), Answers(target)
    left = [line for line in lines if line.name not in answers.done]
    kept = len(lines) - len(left)
    done = kept

    def report() -> None:
        nonlocal done
        done += 1
        progress(done, len(lines))

    try:
        if left:
            silent = replace(options, access_log=False)
            asyncio.run(_run(config, silent, notify, _Batch(left, answers, report)))
    finally:
        answers.close()
    return BatchResult(len(lines), kept, answers.num_failed)


class _Batch:
    def __init__(self, lines: list[Line], answers: Answers, report: Callable[[], None]) -> None:
        self._lines = iter(lines)
        self._answers = answers
        self._report = report

    async def work(self, client: httpx.AsyncClient, engine: EngineClient) -> None:
        """Answer lines, one after the other, until there are no more. Several may work at once."""
        for line in self._lines:
            if line.wrong is None:
                answer = await client.post(line.path, json=line.body)
                if answer.status_code >= 500:
                    await engine.check_health()  # a dead engine answers nobody: end here
                self._answers.answer(line, answer.status_code, answer.json())
            else:
                self._answers.refuse(line)
            self._report()


async def _run(config: EngineConfig, options: ServeOptions, notify: Notify, batch: _Batch) -> None:
    engine = EngineClient(config, notify)
    try:
        await engine.start()
        folder = Path(engine.info.folder)
        app = create_app(engine, load_tokenizer(folder), load_chat_template(folder), options)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://batch", timeout=None
        ) as client:
            count = _AHEAD * engine.info.max_num_seqs
            await _all([batch.work(client, engine) for _ in range(count)])
    except asyncio.CancelledError:
        engine.kill()  # while it loads it hears nothing
        raise
    finally:
        await engine.close()


async def _all(works: Sequence[Coroutine[None, None, None]]) -> None:
    """Wait for all; where one fails, the others end too."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
