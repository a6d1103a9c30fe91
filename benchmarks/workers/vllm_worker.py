"""vLLM in a worker: its engine in this process, a step at a time."""

from __future__ import annotations

import os

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_CPU_KVCACHE_SPACE"] = "2"

from importlib.metadata import version
from time import perf_counter

import numpy as np
import torch
from protocol import Job, serve

BATCHED_TOKENS = 2048


class Vllm:
    def __init__(self, job: Job) -> None:
        if job.isa == "avx512":
            torch.cpu._is_amx_tile_supported = lambda: False
        from vllm import LLM

        llm = LLM(
            job.model,
            dtype="bfloat16",
            max_model_len=job.max_len,
            max_num_seqs=job.sequences,
            max_num_batched_tokens=BATCHED_TOKENS,
            enable_prefix_caching=True,
        )
        self._engine = llm.llm_engine
        self._sequences = job.sequences
        self._vocab_size = llm.model_config.get_vocab_size()
        self._rng = np.random.default_rng(0)
        self._prompts: dict[int, list[list[int]]] = {}
        self._requests = 0
        self.about = {"vllm": version("vllm-cpu"), "torch": torch.__version__}

    def prefill(self, tokens: int) -> float:
        prompt = self._random(tokens)
        started = perf_counter()
        self._add(prompt, 1)
        while self._engine.has_unfinished_requests():
            self._engine.step()
        return perf_counter() - started

    def decode(self, batch: int, context: int, steps: int) -> float:
        """The prefix cache keeps what was filled; the first steps compute what it has not."""
        if context not in self._prompts:
            self._prompts[context] = [self._random(context) for _ in range(self._sequences)]
        names = [self._add(prompt, steps + 512) for prompt in self._prompts[context][:batch]]
        while len(self._engine.step()) < batch:
            pass
        started = perf_counter()
        for _ in range(steps):
            self._engine.step()
        seconds = perf_counter() - started
        self._engine.abort_request(names)
        while self._engine.has_unfinished_requests():
            self._engine.step()
        return seconds

    def _add(self, prompt: list[int], new_tokens: int) -> str:
        from vllm import SamplingParams

        self._requests += 1
        name = str(self._requests)
        params = SamplingParams(
            temperature=0, max_tokens=new_tokens, ignore_eos=True, detokenize=False
        )
        self._engine.add_request(name, {"prompt_token_ids": prompt}, params)
        return name

    def _random(self, count: int) -> list[int]:
        return [int(token) for token in self._rng.integers(3, self._vocab_size, count)]


if __name__ == "__main__":
    serve(Vllm)
