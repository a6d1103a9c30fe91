"""Requests in company and alone, on a real model, with few pages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from scheduling.command import report
from scheduling.engines import rest
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.core.request import IDLE_PRIORITY, Request
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineStats
from vivace.engine.build import build_engine
from vivace.engine.core import EngineCore

MODEL = "vivace-draft"
LENGTH = 256
PAGE_BYTES = 16 * 3 * 2 * 64 * 2  # tokens, layers, keys and values, head, bfloat16
DEVICE_PAGES, HOST_PAGES, DISK_PAGES = 40, 60, 2000  # one request needs up to 16
VOCAB = 8000  # of the model's 8192 tokens; 0 ends an answer
HEADS, TAILS, TAIL_TOKENS = 4, 8, 130
OWN_TOKENS, ANSWER = 50, 20
PREFETCH_SHARE = 0.02  # of the steps
NOTHING_MORE = SamplingParams(max_tokens=1, temperature=0.0, ignore_eos=True)
PARTS = 4  # between which the engine is started anew, on the same disk tier
WAVE = 250  # requests, then a moment of idleness
ALIVE = 40
CHECK_EVERY = 20  # steps between two proofs of the books
Tokens = dict[str, list[int]]
Stems = Sequence[tuple[int, ...]]


def measure(num_requests: int, seed: int) -> dict[str, Any]:
    """Run so many requests alone, then in company, and compare."""
    rng = np.random.default_rng(seed)
    stems = _stems(rng)
    requests = list(_requests(num_requests, stems, rng))
    expected = alone(requests)
    company = Company(stems, rng)
    with tempfile.TemporaryDirectory() as folder:
        for part in range(PARTS):
            company.run(requests[part::PARTS], folder)
            report(f"{len(company.answers)} of {num_requests} requests in company")
    different = [name for name, tokens in expected.items() if company.answers[name] != tokens]
    return {
        "requests": num_requests,
        "tokens": sum(map(len, expected.values())),
        "different": len(different),
        "first_different": different[:5],
        "at_work": company.at_work(),
    }


def _stems(rng: np.random.Generator) -> Stems:
    """Beginnings of prompts; many differ in their first block alone, and what follows it is the
    same tokens with other keys and values."""
    heads = rng.integers(1, VOCAB, (HEADS, 16)).tolist()
    tails = rng.integers(1, VOCAB, (TAILS, TAIL_TOKENS)).tolist()
    return [(*head, *tail) for head in heads for tail in tails]


def _requests(number: int, stems: Stems, rng: np.random.Generator) -> Iterator[Request]:
    """Prompts that begin as others do, with mixed sampling and standing."""
    for index in range(number):
        stem = stems[rng.integers(len(stems))]
        known = stem[: rng.integers(len(stem) + 1)]
        own = rng.integers(1, VOCAB, rng.integers(1, OWN_TOKENS)).tolist()
        yield Request(
            request_id=f"r{index}",
            prompt_token_ids=(*known, *own),
            params=_params(index, rng),
            priority=int(rng.integers(-1, 3)),
            deadline=float(rng.random()) if rng.random() < 0.2 else None,
            cache_salt=str(rng.choice(["", "", "", "salt"])),
            tenant=str(rng.choice(["a", "b", "c"])),
        )


def _params(seed: int, rng: np.random.Generator) -> SamplingParams:
    return SamplingParams(
        temperature=float(rng.choice([0.0, 0.7, 1.3])),
        top_k=int(rng.choice([0, 5, 40])),
        top_p=float(rng.choice([1.0, 0.9])),
        min_p=float(rng.choice([0.0, 0.05])),
        repetition_penalty=float(rng.choice([1.0, 1.2])),
        presence_penalty=float(rng.choice([0.0, 0.5])),
        seed=seed,
        max_tokens=int(rng.integers(1, ANSWER + 1)),
        ignore_eos=bool(rng.random() < 0.5),
    )


def alone(requests: Sequence[Request]) -> Tokens:
    """Each request's tokens in an engine that has nothing else to do, now or before."""
    core = build_engine(EngineConfig(MODEL, max_model_len=LENGTH, enable_prefix_caching=False))
    answers: Tokens = {}
    for done, request in enumerate(requests, 1):
        core.add(request)
        tokens: list[int] = []
        while core.has_work:
            for delta in core.step():
                tokens += delta.token_ids
        answers[request.request_id] = tokens
        if done % 1000 == 0:
            report(f"{done} of {len(requests)} requests alone")
    core.close()
    return answers


class Company:
    """Runs requests together, with prefetches and pins among them.

    Attributes:
        answers: tokens by request, so far.
    """

    def __init__(self, stems: Stems, rng: np.random.Generator) -> None:
        self.answers: Tokens = {}
        self._rng = rng
        self._stems = stems
        self._stats: list[EngineStats] = []
        self._checks = 0
        self._prefetches = 0
        self._pinning = ""  # the prefetch under way that will pin its prefix

    def run(self, requests: Sequence[Request], folder: str) -> None:
        """One life of an engine, which finds what the last one left on disk."""
        core = build_engine(_scarce(folder))
        for start in range(0, len(requests), WAVE):
            self._wave(core, list(requests[start : start + WAVE]))
            rest(core)
            self._check(core)
        self._stats.append(core.stats())
        core.close()

    def at_work(self) -> dict[str, int]:
        """How often each mechanism was used."""
        counts = {
            "prefetches": self._prefetches,
            "integrity_checks": self._checks,
            "engine_starts": len(self._stats),
        }
        for name in ("steps", "preemptions", "prefix_hit_tokens"):
            counts[name] = sum(getattr(stats, name) for stats in self._stats)
        for name in asdict(self._stats[0].tiers):
            counts[name] = sum(getattr(stats.tiers, name) for stats in self._stats)
        return counts

    def _wave(self, core: EngineCore, waiting: list[Request]) -> None:
        alive: set[str] = set()
        steps = 0
        while waiting or core.has_work:
            while waiting and len(alive) < ALIVE and self._rng.random() < 0.8:
                request = waiting.pop()
                alive.add(request.request_id)
                self.answers[request.request_id] = []
                core.add(request)
            if self._rng.random() < PREFETCH_SHARE:
                self._prefetch(core)
            self._step(core, alive)
            steps += 1
            if steps % CHECK_EVERY == 0:
                self._check(core)

    def _step(self, core: EngineCore, alive: set[str]) -> None:
        for delta in core.step():
            if delta.error is not None:
                raise VivaceError(delta.error)
            if delta.request_id in alive:
                self.answers[delta.request_id] += delta.token_ids
            if delta.finish_reason is None:
                continue
            alive.discard(delta.request_id)
            if delta.request_id == self._pinning:
                self._pinning = ""

    def _prefetch(self, core: EngineCore) -> None:
        """As `POST /v1/prefetch` does; every other one pins its prefix, in place of the last."""
        self._prefetches += 1
        name = f"prefetch-{self._prefetches}"
        stem = self._stems[self._rng.integers(len(self._stems))]
        pins = self._prefetches % 2 == 0 and not self._pinning
        if pins:
            self._unpin(core)
            self._pinning = name
        request = Request(name, stem, NOTHING_MORE, priority=IDLE_PRIORITY)
        core.add(replace(request, pin_id=name if pins else None))

    def _unpin(self, core: EngineCore) -> None:
        for pin_id in core.stats().pins:
            core.unpin(pin_id)

    def _check(self, core: EngineCore) -> None:
        core.check_integrity()
        self._checks += 1


def _scarce(folder: str) -> EngineConfig:
    return EngineConfig(
        MODEL,
        max_model_len=LENGTH,
        kv_memory_bytes=DEVICE_PAGES * PAGE_BYTES,
        kv_host_bytes=HOST_PAGES * PAGE_BYTES,
        kv_disk_bytes=DISK_PAGES * PAGE_BYTES,
        kv_disk_folder=folder,
        max_num_seqs=12,
        max_num_batched_tokens=96,
        max_prefill_chunk=40,
        max_prefill_beside_decodes=24,
        target_itl_ms=3.0,
        max_wait_seconds=0.2,
        tenant_weights="a=2,b=1,c=0.5",
    )
