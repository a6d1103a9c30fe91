"""Hugging Face Transformers in a worker: `transformers_worker.py MODEL THREADS`.

Its forward is called directly, which is quicker than its `generate`; each task uses whichever
attention implementation was the faster one when warming up.
"""

from __future__ import annotations

import sys
from time import perf_counter

import torch
import transformers
from protocol import answer_tasks
from transformers import AutoModelForCausalLM, DynamicCache

DECODE_CONTEXT = 64
IMPLEMENTATIONS = ("sdpa", "eager")
WARM_UP = (("prefill", 512), ("decode", 8))


class Peer:
    """The model, and the two tasks."""

    def __init__(self, folder: str) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
        self.fastest: dict[str, str] = {}
        self._tasks = {"prefill": self._prefill, "decode": self._decode}

    def run(self, task: str, tokens: int) -> float:
        self.model.set_attn_implementation(self.fastest[task])
        with torch.inference_mode():
            return self._tasks[task](tokens)

    def warm_up(self, task: str, tokens: int) -> None:
        rates = {}
        for self.fastest[task] in IMPLEMENTATIONS:
            rates[self.fastest[task]] = max(self.run(task, tokens) for _ in range(2))
        self.fastest[task] = max(rates, key=lambda name: rates[name])

    def _prefill(self, tokens: int) -> float:
        prompt = self._prompt(tokens)
        started = perf_counter()
        self._next_token(prompt, DynamicCache())
        return tokens / (perf_counter() - started)

    def _decode(self, tokens: int) -> float:
        cache = DynamicCache()
        token = self._next_token(self._prompt(DECODE_CONTEXT), cache)
        started = perf_counter()
        for _ in range(tokens):
            token = self._next_token(token, cache)
        return tokens / (perf_counter() - started)

    def _next_token(self, token_ids: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        output = self.model(token_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1:].argmax(-1)

    def _prompt(self, tokens: int) -> torch.Tensor:
        return torch.randint(0, self.model.config.vocab_size, (1, tokens))


def main(folder: str, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    peer = Peer(folder)
    for task, tokens in WARM_UP:
        peer.warm_up(task, tokens)
    about = {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "dtype": str(peer.model.dtype),
        "attention": peer.fastest,
    }
    tasks = {
        task: lambda tokens, task=task: peer.run(task, tokens) for task in ("prefill", "decode")
    }
    answer_tasks(about, tasks)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
