"""vivace's server in front of an engine that computes nothing: python null_server.py PORT STEP_MS.

Server, pipe and messages are the real ones. In the engine's process, which imports this file too,
each request gets one token in every step, and steps come at a pace.
"""

from __future__ import annotations

import sys
import time

from vivace.core.config import EngineConfig
from vivace.core.request import Delta, Request
from vivace.core.stats import EngineInfo, EngineStats
from vivace.engine import worker
from vivace.engine.notices import Notify
from vivace.formats.hub import resolve_model
from vivace.serve.server import run
from vivace.text.tokenizer import load_tokenizer

TOKENS = range(100, 200)


class NullCore:
    """What `engine.loop.run` needs of an engine."""

    unwritten = False

    def __init__(self, info: EngineInfo, step_seconds: float) -> None:
        self.info = info
        self._step_seconds = step_seconds
        self._due = 0.0
        self._steps = 0
        self._left: dict[str, int] = {}
        tokenizer = load_tokenizer(resolve_model(None, lambda line: None))
        assert tokenizer is not None
        self._texts = [tokenizer.token_text(token) for token in TOKENS]

    @property
    def has_work(self) -> bool:
        return bool(self._left)

    def add(self, request: Request) -> None:
        self._left[request.request_id] = request.params.max_tokens or 1

    def abort(self, request_id: str) -> None:
        self._left.pop(request_id, None)

    def step(self) -> list[Delta]:
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + self._step_seconds
        self._steps += 1
        return [self._delta(name) for name in list(self._left)]

    def _delta(self, name: str) -> Delta:
        place = self._steps % len(TOKENS)
        self._left[name] -= 1
        reason = None
        if not self._left[name]:
            del self._left[name]
            reason = "length"
        return Delta(name, (TOKENS[place],), self._texts[place], finish_reason=reason)

    def stats(self) -> EngineStats:
        return EngineStats(running=len(self._left), steps=self._steps)

    def check_integrity(self) -> None:
        pass

    def close(self) -> None:
        pass


def null_engine(config: EngineConfig, notify: Notify) -> NullCore:
    info = EngineInfo(
        model_name="null",
        folder=str(resolve_model(None, notify)),
        family="none",
        backend="none",
        dtype="none",
        vocab_size=1 << 20,
        max_model_len=1 << 20,
        eos_token_ids=(),
        num_pages=1,
        page_tokens=16,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        threads=1,
        load_seconds=0.0,
    )
    return NullCore(info, float(sys.argv[2]) / 1000)


worker.build_engine = null_engine  # type: ignore[assignment]

if __name__ == "__main__":
    run(EngineConfig(), port=int(sys.argv[1]))
