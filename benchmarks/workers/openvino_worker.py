"""OpenVINO GenAI in a worker: its continuous batching pipeline, a step at a time."""

from __future__ import annotations

import os
from importlib.metadata import version
from time import perf_counter

import numpy as np
import openvino
import openvino_genai
from protocol import Job, serve

KV_GIB = 2
BATCHED_TOKENS = 512
# By default activations stay in bfloat16 where there is AMX; these multiply int8 with int8.
PROPERTIES = {
    "default": {},
    "a8": {"INFERENCE_PRECISION_HINT": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 128},
}


class OpenVino:
    def __init__(self, job: Job) -> None:
        config = openvino_genai.SchedulerConfig()
        config.max_num_batched_tokens = BATCHED_TOKENS
        config.max_num_seqs = job.sequences
        config.enable_prefix_caching = True
        config.cache_size = KV_GIB
        properties = {
            "INFERENCE_NUM_THREADS": job.threads,
            "ENABLE_CPU_PINNING": os.environ.get("OMP_PROC_BIND") != "false",
            **PROPERTIES[job.format],
        }
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            job.model, config, "CPU", properties
        )
        self._rng = np.random.default_rng(0)
        self._prompts: dict[int, list[list[int]]] = {}
        self._requests = 0
        self._sequences = job.sequences
        self.about = {
            "openvino": openvino.get_version(),
            "openvino-genai": version("openvino-genai"),
        }

    def prefill(self, tokens: int) -> float:
        prompt = self._random(tokens)
        started = perf_counter()
        handle = self._add(prompt, 1)
        while not handle.can_read():
            self._pipeline.step()
        return perf_counter() - started

    def decode(self, batch: int, context: int, steps: int) -> float:
        """The prefix cache keeps what was filled; the first steps compute what it has not."""
        if context not in self._prompts:
            self._prompts[context] = [self._random(context) for _ in range(self._sequences)]
        handles = [self._add(prompt, steps + 512) for prompt in self._prompts[context][:batch]]
        while not all(handle.can_read() for handle in handles):
            self._pipeline.step()
        started = perf_counter()
        for _ in range(steps):
            self._pipeline.step()
        seconds = perf_counter() - started
        for handle in handles:
            handle.cancel()
        self._pipeline.step()
        return seconds

    def _add(self, prompt: list[int], new_tokens: int) -> openvino_genai.GenerationHandle:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = new_tokens
        config.ignore_eos = True
        config.do_sample = False
        self._requests += 1
        ids = openvino.Tensor(np.asarray([prompt], np.int64))
        return self._pipeline.add_request(self._requests, ids, config)

    def _random(self, count: int) -> list[int]:
        return [int(token) for token in self._rng.integers(3, 32000, count)]


if __name__ == "__main__":
    serve(OpenVino)
