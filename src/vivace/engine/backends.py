"""Which backend runs a model: the one visible table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vivace.backends.protocol import Backend, DTypeName
from vivace.core.config import EngineConfig
from vivace.core.errors import BackendError
from vivace.engine.notices import Notify
from vivace.formats.checkpoint import Checkpoint
from vivace.models.weights import cut_digest


@dataclass(frozen=True)
class Wanted:
    """What a backend is made for."""

    config: EngineConfig
    checkpoint: Checkpoint
    threads: int
    notify: Notify

    def dtype(self, backend: str) -> DTypeName:
        """bfloat16 where it is stored in 16 bits, but for the reference, slower in it."""
        if self.config.dtype != "auto":
            return self.config.dtype
        kept = backend == "reference" or self.checkpoint.dtype == "float32"
        return "float32" if kept else "bfloat16"


def _cpu(wanted: Wanted) -> Backend:
    from vivace.backends.cpu import CpuBackend, packed_store

    store = None
    if wanted.config.packed_cache:
        store = packed_store(wanted.checkpoint.tensors.paths, cut_digest(), wanted.notify)
    return CpuBackend(wanted.dtype("cpu"), wanted.threads, store=store)


def _reference(wanted: Wanted) -> Backend:
    from vivace.backends.reference import ReferenceBackend

    return ReferenceBackend(wanted.dtype("reference"))


def _torch(wanted: Wanted) -> Backend:
    from vivace.backends.torch import TorchBackend

    return TorchBackend(wanted.dtype("torch"))


# Imports are made inside: no backend may cost the start of another.
BACKENDS: dict[str, Callable[[Wanted], Backend]] = {
    "cpu": _cpu,
    "reference": _reference,
    "torch": _torch,
}


def choose_backend(wanted: Wanted) -> Backend:
    """The backend asked for; "auto" is cpu, or reference with a notice where cpu was not built.

    Raises:
        BackendError: it cannot run here.
    """
    if wanted.config.backend != "auto":
        return BACKENDS[wanted.config.backend](wanted)
    try:
        return _cpu(wanted)
    except BackendError as error:
        wanted.notify(f"{error} Running on the slow reference backend.")
        return _reference(wanted)
