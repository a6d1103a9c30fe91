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
    limits = BatchLimits(
        max_tokens=max(config.max_num_batched_tokens, LOGIT_ROWS),
        max_sequences=config.max_num_seqs,
        max_logit_rows=max(config.max_num_seqs, LOGIT_ROWS),
    )
    groups = decoder.spec.kv_groups
    caches = [
        backend.kv_cache(spec, count)
        for spec, count in zip(groups, plan.pages.num_pages, strict=True)
    ]
    end_tokens = end_token_ids(checkpoint)
    tokenizer = load_tokenizer(checkpoint.folder)
    return EngineCore(
        info=_info(config, checkpoint, backend, decoder, plan),
        scheduler=Scheduler(...),
        runner=Runner(decoder, backend, caches, limits),
        sampler=Sampler(end_tokens),
        text=OutputText(tokenizer, end_tokens),
    )
