"""Hugging Face Transformers in a worker.

Its forward is called directly, which is quicker than its `generate`; each task uses whichever
attention implementation was the faster one when warming up.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
import transformers
from protocol import Job, mixed_lengths, serve
from transformers import AutoModelForCausalLM, DynamicCache

IMPLEMENTATIONS = ("sdpa", "eager")


class Transformers:
    def __init__(self, job: Job) -> None:
        torch.set_num_threads(job.threads)
        torch.manual_seed(0)
        transformers.utils.logging.disable_progress_bar()
        self._model = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.bfloat16).eval()
        self._batch = job.sequences
        self._caches: dict[tuple[int, int], DynamicCache] = {}
        self._fastest: dict[str, str] = {}
        self.about = {
            "transformers": transformers.__version__,
            "torch": torch.__version__,
            "dtype": str(self._model.dtype),
            "attention": self._fastest,
        }

    def prefill(self, tokens: int) -> float:
        return self._timed("prefill", lambda: self._prefill(tokens))

    def decode(self, batch: int, context: int, steps: int) -> float:
        return self._timed("decode", lambda: self._decode(batch, context, steps))

    def mixed(self, first: int, count: int) -> float:
        """Output tokens per second of these requests of the trace, in the order in which they come,
        in batches that end with their longest answer."""
        lengths = mixed_lengths(first, count)
        started = perf_counter()
        with torch.inference_mode():
            for at in range(0, count, self._batch):
                self._generate(lengths[at : at + self._batch])
        return sum(answer for _, answer in lengths) / (perf_counter() - started)

    def _generate(self, lengths: list[tuple[int, int]]) -> None:
        width = max(prompt for prompt, _ in lengths)
        answer = max(answer for _, answer in lengths)
        rows = self._prompt(width).repeat(len(lengths), 1)
        mask = torch.ones_like(rows)
        for row, (prompt, _) in enumerate(lengths):
            mask[row, : width - prompt] = 0
        self._model.generate(
            rows,
            attention_mask=mask,
            do_sample=False,
            min_new_tokens=answer,
            max_new_tokens=answer,
            pad_token_id=0,
        )

    def _timed(self, task: str, run: Callable[[], float]) -> float:
        with torch.inference_mode():
            if task not in self._fastest:
                self._fastest[task] = min(IMPLEMENTATIONS, key=lambda name: self._tried(name, run))
            self._model.set_attn_implementation(self._fastest[task])
            return run()

    def _tried(self, implementation: str, run: Callable[[], float]) -> float:
        self._model.set_attn_implementation(implementation)
        return min(run() for _ in range(2))

    def _prefill(self, tokens: int) -> float:
        prompt = self._prompt(tokens)
        started = perf_counter()
        self._next_token(prompt, DynamicCache())
        return perf_counter() - started

    def _decode(self, batch: int, context: int, steps: int) -> float:
        cache = self._filled(batch, context)
        token = self._next_token(self._prompt(1).expand(batch, 1), cache)
        started = perf_counter()
        for _ in range(steps):
            token = self._next_token(token, cache)
        seconds = perf_counter() - started
        cache.crop(context - cache.get_seq_length())
        return seconds

    def _filled(self, batch: int, context: int) -> DynamicCache:
        """One sequence is computed, the others are copies of it."""
        if (batch, context) not in self._caches:
            cache = DynamicCache()
            self._next_token(self._prompt(context), cache)
            cache.batch_repeat_interleave(batch)
            self._caches[batch, context] = cache
        return self._caches[batch, context]

    def _next_token(self, token_ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        output = self._model(token_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1:].argmax(-1)

    def _prompt(self, tokens: int) -> torch.Tensor:
        return torch.randint(3, self._model.config.vocab_size, (1, tokens))


if __name__ == "__main__":
    serve(Transformers)
