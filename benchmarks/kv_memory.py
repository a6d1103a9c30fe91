"""What KV pages waste: memory that sequences hold, and that holds no token.

    python benchmarks/kv_memory.py [--requests 400]

The real scheduler and page books serve requests with the lengths of chats, and twice, half, a
quarter and an eighth of them; no model runs, as the books do not depend on one. After each step,
the bytes of the held pages (as the cpu backend allocates them for the 1.1B model) stand beside
those of a plain bfloat16 array of exactly the computed tokens, and beside what reserving for each
sequence would hold. Nothing is shared. Takes a minute; prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from vivace.backends.cpu import CpuBackend
from vivace.backends.protocol import PAGE_TOKENS, KVSpec
from vivace.bench.random_model import PRESETS
from vivace.cache.blocks import KVGroup, KVManager
from vivace.core.request import Request
from vivace.core.sampling import SamplingParams
from vivace.core.step import Advance, Picked, ScheduledSequence, Step
from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.scheduler import Scheduler

MEAN_PROMPT, MEAN_ANSWER = 161, 338  # tokens; ShareGPT's, by Kwon et al., SOSP 2023
SPREAD = 0.9  # of the logarithms of lengths
SCALES = (2.0, 1.0, 0.5, 0.25, 0.125)  # times these lengths
LONGEST, SEATS, WAITING = 2048, 64, 16
VALUE_BYTES = 2


@dataclass
class Held:
    """Tokens, or room for them, summed over the steps."""

    computed: int = 0
    in_pages: int = 0
    reserved_whole: int = 0
    reserved_longest: int = 0

    def wasted(self, held: int, bytes_per_token: float) -> float:
        """The share of `held` that is not computed tokens in plain bfloat16."""
        return 1 - self.computed / (held * bytes_per_token)


def main() -> None:
    parser = argparse.ArgumentParser(description="What KV pages waste.")
    parser.add_argument("--requests", type=int, default=400)
    given = parser.parse_args()
    print(json.dumps(measure(given.requests)))


def measure(num_requests: int) -> dict[str, Any]:
    padding = _page_bytes() / _plain_bytes()
    cases = []
    for scale in SCALES:
        held, mean_length = _serve(num_requests, scale)
        cases.append(
            {
                "scale": scale,
                "mean_length": mean_length,
                "pages": held.wasted(held.in_pages, padding),
                "prompt_and_answer_reserved": held.wasted(held.reserved_whole, 1.0),
                "longest_reserved": held.wasted(held.reserved_longest, 1.0),
            }
        )
    return {
        "requests": num_requests,
        "page_tokens": PAGE_TOKENS,
        "page_bytes_over_plain": padding,
        "cases": cases,
    }


def _page_bytes() -> int:
    """Of all layers, as allocated."""
    shape = PRESETS["1.1b"]
    spec = KVSpec(shape.num_hidden_layers, shape.num_key_value_heads, shape.head_dim)
    return CpuBackend("bfloat16", threads=1).kv_page_bytes(spec)


def _plain_bytes() -> int:
    shape = PRESETS["1.1b"]
    values = 2 * shape.num_hidden_layers * shape.num_key_value_heads * shape.head_dim
    return PAGE_TOKENS * values * VALUE_BYTES


def _serve(num_requests: int, scale: float) -> tuple[Held, float]:
    """What is held while so many requests are served, and their mean length."""
    kv = KVManager([KVGroup(SEATS * LONGEST // PAGE_TOKENS)], PAGE_TOKENS, sharing=False)
    scheduler = Scheduler(SchedulerConfig(max_num_seqs=SEATS), kv)
    waiting = deque(_requests(num_requests, scale))
    lengths = [len(one.prompt_token_ids) + (one.params.max_tokens or 0) for one in waiting]
    longest = {one.request_id: length for one, length in zip(waiting, lengths, strict=True)}
    held = Held()
    while waiting or scheduler.has_work:
        while waiting and scheduler.num_running + scheduler.num_waiting < SEATS + WAITING:
            scheduler.add(waiting.popleft())
        step = scheduler.schedule()
        ended = _take_in(scheduler, step)
        _count(held, kv, [longest[name] for name in _names(step) if name not in ended])
    kv.check_integrity()
    return held, float(np.mean(lengths))


def _requests(number: int, scale: float) -> list[Request]:
    rng = np.random.default_rng(0)
    prompts, answers = (_lengths(mean * scale, number, rng) for mean in (MEAN_PROMPT, MEAN_ANSWER))
    return [
        Request(f"r{index}", (0,) * prompt, SamplingParams(max_tokens=answer))
        for index, (prompt, answer) in enumerate(zip(prompts, answers, strict=True))
    ]


def _lengths(mean: float, number: int, rng: np.random.Generator) -> list[int]:
    """Log-normal, cut to half of the longest sequence."""
    drawn = rng.lognormal(np.log(mean) - SPREAD**2 / 2, SPREAD, number)
    return [int(length) for length in np.clip(drawn, 1, LONGEST // 2)]


def _take_in(scheduler: Scheduler, step: Step) -> set[str]:
    """Give every sampling sequence a token; who ended with it."""
    picked = [Picked(one.request.request_id, token_id=0) for one in step.sampling]
    deltas = scheduler.update(step, picked, map(_advance, step.sampling))
    return {delta.request_id for delta in deltas if delta.finish_reason is not None}


def _advance(sequence: ScheduledSequence) -> Advance:
    """An answer ends at its length."""
    drawn = len(sequence.token_ids) - sequence.num_prompt_tokens + 1
    ends = drawn == sequence.request.params.max_tokens
    return Advance(sequence.request.request_id, finish_reason="length" if ends else None)


def _names(step: Step) -> list[str]:
    return [one.request.request_id for one in step.sequences]


def _count(held: Held, kv: KVManager, lengths: list[int]) -> None:
    """Args:
    lengths: in the end, of the sequences that go on.
    """
    held.computed += sum(pages.computed for pages in kv.live_sequences())
    held.in_pages += kv.pages_used * PAGE_TOKENS
    held.reserved_whole += sum(lengths)
    held.reserved_longest += len(lengths) * LONGEST


if __name__ == "__main__":
    main()
