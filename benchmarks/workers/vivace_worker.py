"""vivace in a worker; the job's format is what `--quantize` takes, or bfloat16."""

from __future__ import annotations

import os
from time import perf_counter

import numpy as np
from protocol import Job, mixed_lengths, serve

from vivace import __version__
from vivace.backends.cpu import CpuBackend
from vivace.bench.run import random_requests, run_requests
from vivace.core.config import EngineConfig
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.engine.build import build_engine
from vivace.engine.plan import weight_bytes, weights_held
from vivace.engine.requests import fan_out
from vivace.formats.checkpoint import open_checkpoint
from vivace.formats.policy import PrecisionPolicy
from vivace.models.loader import model_spec, role_schemes

KV_BYTES = {True: 3 << 29, False: 1 << 27}  # whether many sequences run


class Vivace:
    def __init__(self, job: Job) -> None:
        config = EngineConfig(
            job.model,
            dtype="bfloat16",
            quantize=None if job.format == "bfloat16" else job.format,
            max_model_len=job.max_len,
            threads=job.threads,
            max_num_seqs=job.sequences,
            kv_memory_bytes=KV_BYTES[job.sequences > 1],
        )
        self._core = build_engine(config)
        self._sequences = job.sequences
        self._rng = np.random.default_rng(0)
        self._prompts: dict[int, list[list[int]]] = {}
        self._requests = 0
        info = self._core.info
        self.about = {
            "vivace": __version__,
            "precision": info.precision,
            "backend": info.backend,
            "isa": os.environ.get("VIVACE_ISA", "best"),
            **sizes(config),
        }

    def prefill(self, tokens: int) -> float:
        return run_requests(
            self._core, random_requests(self._core, 1, tokens, 1, self._rng)
        ).elapsed

    def decode(self, batch: int, context: int, steps: int) -> float:
        """The prefix cache keeps what was filled; the first steps compute what it has not."""
        if context not in self._prompts:
            self._prompts[context] = [self._random(context) for _ in range(self._sequences)]
        requests = [self._request(prompt, steps) for prompt in self._prompts[context][:batch]]
        for request in requests:
            self._core.add(request)
        while len(self._core.step()) < batch:
            pass
        started = perf_counter()
        for _ in range(steps):
            self._core.step()
        seconds = perf_counter() - started
        for request in requests:
            self._core.abort(request.request_id)
        return seconds

    def mixed(self, first: int, count: int) -> float:
        """Output tokens per second, from when these requests of the trace come until none of them
        waits: those that run go on in the next round, and all seats are taken meanwhile."""
        for prompt, answer in mixed_lengths(first, count):
            (request,) = random_requests(self._core, 1, prompt, answer, self._rng)
            self._core.add(request)
        tokens, started = 0, perf_counter()
        while self._core.scheduler.num_waiting:
            tokens += len(self._core.step())
        return tokens / (perf_counter() - started)

    def read(self) -> float:
        """The machine's streaming read by our threads, in bytes per second."""
        return CpuBackend("bfloat16", self._core.info.threads).read_bandwidth()

    def _request(self, prompt: list[int], steps: int) -> Request:
        """It never ends by itself: while the cache is filled, the first ones go ahead."""
        room = min(self._core.info.max_model_len - len(prompt), steps + 512)
        params = SamplingParams(temperature=0.0, max_tokens=room, ignore_eos=True)
        self._requests += 1
        (request,) = fan_out(self._core.info, f"decode-{self._requests}", prompt, params)
        return request

    def _random(self, count: int) -> list[int]:
        return [int(token) for token in self._rng.integers(3, self._core.info.vocab_size, count)]


def sizes(config: EngineConfig) -> dict[str, float]:
    """Bytes of the weights, and of those that every token reads."""
    spec = model_spec(open_checkpoint(config.model).config, config.max_model_len)
    schemes = role_schemes(spec, PrecisionPolicy.parse(config.quantize))
    weights = weight_bytes(spec, "bfloat16", schemes)
    rows = (spec.vocab_size, spec.hidden_size)
    scheme = schemes.get("embedding")
    looked_up = 2 * rows[0] * rows[1] if scheme is None else scheme.matrix_bytes(*rows)
    return {
        "weight_bytes": weights,
        "token_bytes": weights - looked_up,
        "bytes_per_weight": weights / weights_held(spec),
    }


if __name__ == "__main__":
    serve(Vivace)
