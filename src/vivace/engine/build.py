"""From a configuration to a loaded engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from vivace.backends.protocol import PAGE_TOKENS, Backend, BatchLimits
from vivace.cache.blocks import KVGroup, KVManager
from vivace.core.config import EngineConfig
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.decoding.sampler import Sampler
from vivace.decoding.stops import OutputText
from vivace.engine.backends import choose_backend
from vivace.engine.core import EngineCore
from vivace.engine.plan import MemoryPlan, plan_memory, weight_bytes
from vivace.engine.runner import LOGIT_ROWS, Runner
from vivace.formats.checkpoint import (
    end_token_ids,
    open_checkpoint,
    sampling_defaults,
)
from vivace.formats.hub import resolve_model
from vivace.hardware.machine import detect
from vivace.models.decoder import Decoder
from vivace.models.loader import load_decoder, model_spec
from vivace.scheduler.config import SchedulerConfig
from vivace.scheduler.scheduler import Scheduler
from vivace.text.tokenizer import load_tokenizer

BUNDLED_MODEL = "vivace-mini"
PROGRESS_SECONDS = 1.0

Notify: TypeAlias = Callable[[str], None]


def build_engine(config: EngineConfig, notify: Notify | None = None) -> EngineCore:
    """Load a model and everything around it.

    Args:
        notify: called with lines about progress and about the limits chosen.

    Raises:
        VivaceError: what went wrong and what to do; nothing is left loaded.
    """
    notify = notify or _ignore
    started = time.perf_counter()
    checkpoint = open_checkpoint(resolve_model(config.model, notify))
    machine = detect()
    threads = config.threads or machine.cores
    backend = choose_backend(config, checkpoint.dtype, threads, notify)
    plan = plan_memory(
        config,
        model_spec(checkpoint.config, config.max_model_len),
        backend,
        weight_bytes(checkpoint, backend.dtype),
        machine.memory_available,
    )
    decoder = load_decoder(checkpoint, backend, plan.max_model_len, _every_second(notify))
    info = EngineInfo(
        model_name=config.model or BUNDLED_MODEL,
        folder=str(checkpoint.folder),
        family=decoder.spec.family,
        backend=backend.name,
        dtype=backend.dtype,
        vocab_size=decoder.spec.vocab_size,
        max_model_len=plan.max_model_len,
        eos_token_ids=end_token_ids(checkpoint),
        num_pages=sum(plan.pages.num_pages),
        page_tokens=PAGE_TOKENS,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        threads=threads,
        default_params=SamplingParams(**sampling_defaults(checkpoint)),
        load_seconds=time.perf_counter() - started,
    )
    notify(summary(info, plan))
    return _assemble(config, info, decoder, backend, plan)


def summary(info: EngineInfo, plan: MemoryPlan) -> str:
    """One line: what was loaded, and the limits chosen for this machine."""
    return (
        f"{info.model_name}: {info.family} in {info.dtype} on {info.backend}, "
        f"{info.threads} threads; {plan.weight_bytes / 2**20:.0f} MiB of weights, "
        f"{plan.pages.total_bytes / 2**20:.0f} MiB of KV pages; context {info.max_model_len}, "
        f"{info.max_num_seqs} sequences, {info.max_num_batched_tokens} tokens a step; "
        f"loaded in {info.load_seconds:.2f} s"
    )


def _assemble(
    config: EngineConfig,
    info: EngineInfo,
    decoder: Decoder,
    backend: Backend,
    plan: MemoryPlan,
) -> EngineCore:
    sizes = list(zip(decoder.spec.kv_groups, plan.pages.num_pages, strict=True))
    kv = KVManager(
        [KVGroup(num_pages, group.window) for group, num_pages in sizes],
        PAGE_TOKENS,
        config.enable_prefix_caching,
    )
    caches = [backend.kv_cache(group, num_pages) for group, num_pages in sizes]
    limits = BatchLimits(
        max_tokens=max(config.max_num_batched_tokens, LOGIT_ROWS),
        max_sequences=config.max_num_seqs,
        max_logit_rows=max(config.max_num_seqs, LOGIT_ROWS),
    )
    tokenizer = load_tokenizer(Path(info.folder))
    scheduling = SchedulerConfig(
        config.max_num_seqs, config.max_num_batched_tokens, config.max_prefill_chunk
    )
    return EngineCore(
        info=info,
        kv=kv,
        scheduler=Scheduler(scheduling, kv),
        runner=Runner(decoder, backend, caches, limits),
        sampler=Sampler(
            info.eos_token_ids, config.seed, None if tokenizer is None else tokenizer.token_text
        ),
        text=OutputText(tokenizer, info.eos_token_ids),
    )


def _every_second(notify: Notify) -> Callable[[int, int], None]:
    """Progress lines for what takes longer than a second, with the time left."""
    started = last = time.perf_counter()

    def progress(done: int, total: int) -> None:
        nonlocal last
        now = time.perf_counter()
        if now - last < PROGRESS_SECONDS or not done:
            return
        last = now
        left = (now - started) * (total - done) / done
        notify(f"Loading weights: {done} of {total} tensors, about {left:.0f} s left")

    return progress


def _ignore(line: str) -> None:
    pass
