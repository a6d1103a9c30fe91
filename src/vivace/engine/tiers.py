"""The tiers below an engine's KV pages, and what their content depends on."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from vivace.backends.protocol import Backend, KVCache
from vivace.cache.chain import BlockChain
from vivace.cache.disk import DiskTier
from vivace.cache.disk_queue import DiskQueue
from vivace.cache.host import HostTier
from vivace.cache.mover import BackendMover
from vivace.cache.pool import shared_page_tokens
from vivace.cache.swap import swap_is_cheaper
from vivace.cache.tiers import PageTiers
from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError
from vivace.core.folders import user_cache
from vivace.formats.checkpoint import Checkpoint
from vivace.formats.identity import file_identity
from vivace.models.decoder import Decoder
from vivace.models.spec import ModelSpec
from vivace.models.weights import cut_digest
from vivace.scheduler.step_time import StepTimeModel


@dataclass(frozen=True)
class PagesOf:
    """A model's pages on its backend."""

    checkpoint: Checkpoint
    decoder: Decoder
    backend: Backend
    caches: Sequence[KVCache]


def make_tiers(config: EngineConfig, pages: PagesOf, step_time: StepTimeModel) -> PageTiers | None:
    """What the configuration asks for; None where that is nothing.

    Args:
        step_time: says what it costs to compute a page again.

    Raises:
        UsageError: the folder cannot be used.
    """
    if config.kv_host_bytes is None:
        return None
    mover = BackendMover(pages.backend, pages.caches, pages.decoder.spec.kv_groups)
    chain = BlockChain(fingerprint(config, pages).encode())

    def is_worth_it(num_bytes: int, num_tokens: int) -> bool:
        seconds = step_time.seconds_per_prompt_token
        return swap_is_cheaper(num_bytes, mover.bytes_per_second, num_tokens, seconds)

    host = HostTier(config.kv_host_bytes)
    return PageTiers(mover, chain, host, _disk(config, chain), is_worth_it=is_worth_it)


def fingerprint(config: EngineConfig, pages: PagesOf) -> str:
    """All that the bytes of a page depend on beside its tokens, as text."""
    files = [file_identity(path.resolve()) for path in pages.checkpoint.tensors.paths]
    backend = pages.backend
    spec = _timeless(pages.decoder.spec)
    numbers = backend.dtype, config.quantize, cut_digest(), shared_page_tokens(spec.kv_groups)
    return repr((files, backend.numerics, numbers, spec))


def _timeless(spec: ModelSpec) -> ModelSpec:
    """Without the length it was loaded for, which may follow free memory: what depends on it stands
    in the rotary frequencies."""
    rotaries = tuple(replace(rotary, max_positions=0) for rotary in spec.rotaries)
    return replace(spec, max_model_len=0, context_len=0, rotaries=rotaries)


def _disk(config: EngineConfig, chain: BlockChain) -> DiskQueue | None:
    if config.kv_disk_bytes is None or config.kv_host_bytes is None:
        return None
    named = config.kv_disk_folder
    folder = user_cache() / "vivace" / "prefixes" if named is None else Path(named)
    try:
        disk = DiskTier(folder, chain.fingerprint, config.kv_disk_bytes)
    except OSError as error:
        raise UsageError(
            f"KV pages cannot be kept in {folder} ({error.strerror}); give another kv_disk_folder."
        ) from None
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kv-disk")
    return DiskQueue(disk, executor, reading_bytes=config.kv_host_bytes // 2)
