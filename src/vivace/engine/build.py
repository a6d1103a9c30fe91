"""From a configuration to a loaded engine."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from vivace.backends.low_rank import AdapterRoom
from vivace.backends.protocol import Backend
from vivace.cache.blocks import KVGroup, KVManager
from vivace.cache.pool import pages_per_shared, shared_page_tokens
from vivace.core.config import EngineConfig, parse_modules, parse_weights
from vivace.core.sampling import SamplingParams
from vivace.core.stats import EngineInfo
from vivace.decoding.compiling import Compiler
from vivace.decoding.constraints import Constraints
from vivace.decoding.sampler import Sampler
from vivace.decoding.stops import OutputText
from vivace.engine.adapters import Adapters
from vivace.engine.backends import Wanted, choose_backend
from vivace.engine.core import EngineCore
from vivace.engine.notices import Notify
from vivace.engine.plan import (
    LOGIT_ROWS,
    MemoryPlan,
    batch_limits,
    plan_memory,
    with_kv_dtype,
)
from vivace.engine.runner import Runner
from vivace.engine.tiers import PagesOf, make_tiers
from vivace.formats.checkpoint import (
    Checkpoint,
    default_pooling,
    end_token_ids,
    open_checkpoint,
    sampling_defaults,
)
from vivace.formats.hub import BUNDLED_MODEL, resolve_model
from vivace.formats.policy import PrecisionPolicy
from vivace.hardware.machine import detect
from vivace.models.decoder import Decoder
from vivace.models.loader import load_decoder, model_spec
from vivace.models.precision import Precision, precision_of
from vivace.scheduler.config import PolicyConfig, SchedulerConfig
from vivace.scheduler.scheduler import Scheduler
from vivace.scheduler.step_time import StepTimeModel
from vivace.text.tokenizer import Tokenizer, load_tokenizer

PROGRESS_SECONDS = 1.0


@dataclass(frozen=True)
class _Loaded:
    """A model on its backend, before anything runs."""

    config: EngineConfig
    checkpoint: Checkpoint
    tokenizer: Tokenizer | None
    backend: Backend
    threads: int
    plan: MemoryPlan
    precision: Precision
    decoder: Decoder
    eos_token_ids: tuple[int, ...]
    default_params: SamplingParams


def build_engine(config: EngineConfig, notify: Notify | None = None) -> EngineCore:
    """Load a model and everything around it.

    Args:
        notify: called with lines about progress and about the limits chosen.

    Raises:
        VivaceError: what went wrong and what to do; nothing is left loaded.
    """
    notify = notify or _ignore
    started = time.perf_counter()
    loaded = _load(_settled(config), notify)
    step_time = StepTimeModel()
    adapters = _adapters(loaded, notify)
    kv, runner = _pages(loaded, adapters, step_time)
    info = replace(
        _info(loaded), adapters=adapters.infos, load_seconds=time.perf_counter() - started
    )
    notify(summary(info, loaded.plan))
    tokenizer = loaded.tokenizer
    return EngineCore(
        info=info,
        kv=kv,
        scheduler=Scheduler(scheduling(config), kv, policies(config), step_time=step_time),
        runner=runner,
        sampler=Sampler(
            info.eos_token_ids,
            config.seed,
            None if tokenizer is None else tokenizer.token_text,
            None if tokenizer is None else partial(tokenizer.encode, add_special_tokens=False),
            _constraints(tokenizer, info),
        ),
        text=OutputText(tokenizer, info.eos_token_ids),
    )


def _constraints(tokenizer: Tokenizer | None, info: EngineInfo) -> Constraints:
    ends = info.eos_token_ids
    if tokenizer is None or not ends:
        return Constraints()
    return Constraints(Compiler(tokenizer, info.vocab_size, ends), info.vocab_size, ends)


def summary(info: EngineInfo, plan: MemoryPlan) -> str:
    """One line: what was loaded, and the limits chosen for this machine."""
    return (
        f"{info.model_name}: {info.family} in {info.precision} on {info.backend}, "
        f"{info.threads} threads; {plan.weight_bytes / 2**20:.0f} MiB of weights, "
        f"{plan.pages.total_bytes / 2**20:.0f} MiB of KV pages; context {info.max_model_len}, "
        f"{info.max_num_seqs} sequences, {info.max_num_batched_tokens} tokens a step; "
        f"loaded in {info.load_seconds:.2f} s"
    )


def _settled(config: EngineConfig) -> EngineConfig:
    """A step has at least one token for every running sequence: no more can ever run."""
    return replace(config, max_num_seqs=min(config.max_num_seqs, config.max_num_batched_tokens))


def _load(config: EngineConfig, notify: Notify) -> _Loaded:
    policy = PrecisionPolicy.parse(config.quantize)
    checkpoint = open_checkpoint(resolve_model(config.model, notify), config.weight_bits)
    machine = detect()
    threads = machine.cores if config.threads is None else config.threads
    backend = choose_backend(Wanted(config, checkpoint, threads, notify))
    spec = model_spec(checkpoint.config, config.max_model_len, config.sight)
    precision = precision_of(spec, checkpoint, policy)
    plan = plan_memory(
        config,
        with_kv_dtype(spec, config.kv_cache_dtype, backend.dtype),
        backend,
        machine.memory_available,
        precision.schemes,
    )
    _state_losses(precision, backend, notify)
    tokenizer = load_tokenizer(checkpoint.folder)
    eos_token_ids = _end_token_ids(checkpoint, tokenizer)
    default_params = sampling_defaults(checkpoint)
    decoder = load_decoder(
        checkpoint,
        backend,
        model_spec(checkpoint.config, plan.max_model_len, config.sight),
        _every_second(notify),
        policy,
        adapter_room(config),
    )
    served = with_kv_dtype(decoder.spec, config.kv_cache_dtype, backend.dtype)
    return _Loaded(
        config,
        checkpoint,
        tokenizer,
        backend,
        threads,
        plan,
        precision,
        replace(decoder, spec=served),
        eos_token_ids,
        default_params,
    )


def _state_losses(precision: Precision, backend: Backend, notify: Notify) -> None:
    """Precision never drops silently."""
    if precision.dequantized and backend.dtype == "bfloat16":
        notify(
            f"Weights in {', '.join(precision.dequantized)} are kept as bfloat16, which moves "
            "each by up to 0.2%; --dtype float32 keeps their values."
        )


def _end_token_ids(checkpoint: Checkpoint, tokenizer: Tokenizer | None) -> tuple[int, ...]:
    """The tokenizer's own end token ends an answer too, as in vLLM."""
    own = None if tokenizer is None else tokenizer.eos_token_id
    ids = (*end_token_ids(checkpoint), *(() if own is None else (own,)))
    return tuple(dict.fromkeys(ids))


def _pages(
    loaded: _Loaded, adapters: Adapters, step_time: StepTimeModel
) -> tuple[KVManager, Runner]:
    """The pages, those who keep their books, and the program that uses them."""
    config, backend, decoder = loaded.config, loaded.backend, loaded.decoder
    groups, num_pages = decoder.spec.kv_groups, loaded.plan.pages.num_pages
    caches = [
        backend.kv_cache(spec, count * each)
        for spec, count, each in zip(groups, num_pages, pages_per_shared(groups), strict=True)
    ]
    kv = KVManager(
        [KVGroup(count, spec.window) for spec, count in zip(groups, num_pages, strict=True)],
        shared_page_tokens(groups),
        config.enable_prefix_caching,
        tiers=make_tiers(config, PagesOf(loaded.checkpoint, decoder, backend, caches), step_time),
        longest=loaded.plan.max_model_len,
        sight=config.sight,
    )
    return kv, Runner(decoder, backend, caches, batch_limits(config), adapters)


def adapter_room(config: EngineConfig) -> AdapterRoom | None:
    """The room for adapters that a configuration asks for."""
    return AdapterRoom(config.max_loras, config.max_lora_rank) if config.enable_lora else None


def _adapters(loaded: _Loaded, notify: Notify) -> Adapters:
    """With those loaded that the configuration names."""
    adapters = Adapters(adapter_room(loaded.config), loaded.decoder, loaded.backend)
    for name, path in parse_modules(loaded.config.lora_modules).items():
        adapters.load(name, path)
        notify(f"Loaded the adapter {name} from {path}")
    return adapters


def model_name(config: EngineConfig) -> str:
    """As the user named it."""
    return config.model or BUNDLED_MODEL


def scheduling(config: EngineConfig) -> SchedulerConfig:
    """The limits of a step that a configuration asks for."""
    return SchedulerConfig(
        config.max_num_seqs,
        config.max_num_batched_tokens,
        config.max_prefill_chunk,
        config.max_prefill_beside_decodes,
        config.target_itl_ms,
        config.target_ttft_ms,
        LOGIT_ROWS,
    )


def policies(config: EngineConfig) -> PolicyConfig:
    """Whose turn it is, as a configuration asks for."""
    return PolicyConfig(
        config.max_wait_seconds,
        parse_weights(config.tenant_weights),
        config.max_queued_requests,
        config.max_queued_tokens,
    )


def _info(loaded: _Loaded) -> EngineInfo:
    config, spec, plan = loaded.config, loaded.decoder.spec, loaded.plan
    return EngineInfo(
        model_name=model_name(config),
        folder=str(loaded.checkpoint.folder),
        family=spec.family,
        backend=loaded.backend.name,
        dtype=loaded.backend.dtype,
        quantization=loaded.precision.describe(config.quantize),
        vocab_size=spec.vocab_size,
        max_model_len=plan.max_model_len,
        eos_token_ids=loaded.eos_token_ids,
        num_pages=sum(plan.pages.num_pages),
        page_tokens=shared_page_tokens(spec.kv_groups),
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        threads=loaded.threads,
        load_seconds=0.0,
        has_tokenizer=loaded.tokenizer is not None,
        default_params=loaded.default_params,
        pooling=default_pooling(loaded.checkpoint),
        max_loras=config.max_loras if config.enable_lora else 0,
        memory_bytes=plan.total_bytes + (config.kv_host_bytes or 0),
        sight=config.sight,
        kv_cache_dtype=config.kv_cache_dtype,
        context_len=spec.context_len,
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
