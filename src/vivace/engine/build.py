"""From a configuration to a loaded engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from vivace.backends.protocol import PAGE_TOKENS, Backend, BatchLimits
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
    Checkpoint,
    end_token_ids,
    open_checkpoint,
    sampling_defaults,
)
from vivace.formats.hub import resolve_model
from vivace.hardware.machine import detect
from vivace.models.decoder import Decoder
from vivace.models.loader import load_decoder, model_spec
from vivace.scheduler.scheduler import Scheduler, SchedulerConfig
from vivace.text.tokenizer import load_tokenizer

BUNDLED_MODEL = "vivace-mini"
PROGRESS_SECONDS = 1.0


def build_engine(
    config: EngineConfig, notify: Callable[[str], None] | None = None
) -> EngineCore:
    """Load a model and everything around it.

    Args:
        notify: called with lines about progress and about the limits chosen.

    Raises:
        VivaceError: what went wrong and what to do; nothing is left loaded.
    """
    notify = notify or (lambda line: None)
    started = time.perf_counter()
    checkpoint = open_checkpoint(resolve_model(config.model, notify))
    machine = detect()
    backend = choose_backend(config, checkpoint.dtype, machine, notify)
    plan = plan_memory(
        config,
        model_spec(checkpoint.config, config.max_model_len),
        backend,
        weight_bytes(checkpoint, backend.dtype),
        machine.memory_available,
    )
    decoder = load_decoder(checkpoint, backend, plan.max_model_len, _load_progress(notify))
    core = _assemble(config, checkpoint, backend, decoder, plan)
    core.info = replace(core.info, load_seconds=time.perf_counter() - started)
    notify(core.info.summary)
    return core


def _assemble(
    config: EngineConfig,
    checkpoint: Checkpoint,
    backend: Backend,
    decoder: Decoder,
    plan: MemoryPlan,
) -> EngineCore:
    groups = decoder.spec.kv_groups
    caches = [
        backend.kv_cache(spec, count)
        for spec, count in zip(groups, plan.pages.num_pages, strict=True)
    ]
    kv = KVManager(
        [
            KVGroup(count, spec.window)
            for spec, count in zip(groups, plan.pages.num_pages, strict=True)
        ],
        PAGE_TOKENS,
        config.enable_prefix_caching,
    )
    end_tokens = end_token_ids(checkpoint)
    tokenizer = load_tokenizer(checkpoint.folder)
    return EngineCore(
        info=_info(config, checkpoint, backend, decoder, plan),
        scheduler=Scheduler(_scheduler_config(config), kv),
        runner=Runner(decoder, backend, caches, _limits(config)),
        sampler=Sampler(end_tokens, config.seed, tokenizer and tokenizer.token_text),
        text=OutputText(tokenizer, end_tokens),
    )


def _limits(config: EngineConfig) -> BatchLimits:
    return BatchLimits(
        max_tokens=max(config.max_num_batched_tokens, LOGIT_ROWS),
        max_sequences=config.max_num_seqs,
        max_logit_rows=max(config.max_num_seqs, LOGIT_ROWS),
    )


def _info(
    config: EngineConfig,
    checkpoint: Checkpoint,
    backend: Backend,
    decoder: Decoder,
    plan: MemoryPlan,
    threads: int,
) -> EngineInfo:
    spec = decoder.spec
    return EngineInfo(
        model_name=config.model or BUNDLED_MODEL,
        folder=str(checkpoint.folder),
        family=spec.family,
        backend=backend.name,
        dtype=backend.dtype,
        vocab_size=spec.vocab_size,
        max_model_len=plan.max_model_len,
        eos_token_ids=end_token_ids(checkpoint),
        num_pages=sum(plan.pages.num_pages),
        page_tokens=PAGE_TOKENS,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        threads=config.threads or detect().cores,
        load_seconds=0.0,
        default_params=SamplingParams(**sampling_defaults(checkpoint)),
    )


def summary(info: EngineInfo, plan: MemoryPlan) -> str:
    """One line: what was loaded, and the limits chosen for this machine."""
    return (
        f"{info.model_name}: {info.family}, {info.dtype} on {info.backend}, "
        f"{info.threads} threads; {plan.weight_bytes / 2**20:.0f} MiB of weights, "
        f"{plan.pages.total_bytes / 2**20:.0f} MiB of KV pages; context {info.max_model_len}, "
        f"{info.max_num_seqs} sequences, {info.max_num_batched_tokens} tokens a step; "
        f"loaded in {info.load_seconds:.2f} s"
    )
