"""llama.cpp in a worker, by the C interface that llama-cpp-python wraps."""

from __future__ import annotations

from importlib.metadata import version
from time import perf_counter

import llama_cpp
import numpy as np
from protocol import Job, serve

BATCH, MICRO_BATCH = 2048, 512


class Context:
    """A llama_context whose sequences each have a cache of their own."""

    def __init__(self, model: llama_cpp.llama_model_p, job: Job, sequences: int) -> None:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = sequences * job.max_len
        params.n_batch, params.n_ubatch = BATCH, MICRO_BATCH
        params.n_seq_max = sequences
        params.n_threads = params.n_threads_batch = job.threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        params.kv_unified = False
        self._context = llama_cpp.llama_init_from_model(model, params)
        if not self._context:
            raise MemoryError("llama.cpp could not make a context.")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        vocab = llama_cpp.llama_model_get_vocab(model)
        self._vocab_size = llama_cpp.llama_vocab_n_tokens(vocab)
        self._rng = np.random.default_rng(0)
        self._filled: tuple[int, int] | None = None

    def prefill(self, tokens: int) -> float:
        llama_cpp.llama_memory_clear(self._memory, True)
        self._filled = None
        prompt = self._random(tokens)
        started = perf_counter()
        self._run([(token, 0, at, at == tokens - 1) for at, token in enumerate(prompt)])
        self._greedy(tokens - 1)
        return perf_counter() - started

    def decode(self, batch: int, context: int, steps: int) -> float:
        self._fill(batch, context)
        tokens = self._random(batch)
        started = perf_counter()
        for step in range(steps):
            self._run([(tokens[i], i, context + step, True) for i in range(batch)])
            tokens = [self._greedy(i) for i in range(batch)]
        return perf_counter() - started

    def _fill(self, batch: int, context: int) -> None:
        """One sequence is computed, the others are copies of it in memory of their own."""
        if self._filled != (batch, context):
            self.prefill(context)
            for sequence in range(1, batch):
                llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
            self._filled = (batch, context)
        for sequence in range(batch):
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, context, -1)
        self._run([(1, i, context, True) for i in range(batch)])
        for sequence in range(batch):
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, context, -1)

    def _run(self, tokens: list[tuple[int, int, int, bool]]) -> None:
        """One llama_decode of (token, sequence, position, whether its logits are wanted)."""
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, (token, sequence, position, wanted) in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        failed = llama_cpp.llama_decode(self._context, batch)
        if failed:
            raise RuntimeError(f"llama_decode ended with {failed}.")

    def _greedy(self, row: int) -> int:
        logits = llama_cpp.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, (self._vocab_size,)).argmax())

    def _random(self, count: int) -> list[int]:
        return [int(token) for token in self._rng.integers(3, self._vocab_size, count)]


class LlamaCpp:
    def __init__(self, job: Job) -> None:
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            job.model.encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise ValueError("llama.cpp could not load the model.")
        self._one = Context(self._model, job, 1)
        self._many = Context(self._model, job, job.sequences) if job.sequences > 1 else self._one
        self.about = {
            "llama-cpp-python": version("llama-cpp-python"),
            "system": llama_cpp.llama_print_system_info().decode().strip(),
        }

    def prefill(self, tokens: int) -> float:
        return self._one.prefill(tokens)

    def decode(self, batch: int, context: int, steps: int) -> float:
        return (self._one if batch == 1 else self._many).decode(batch, context, steps)


if __name__ == "__main__":
    serve(LlamaCpp)
