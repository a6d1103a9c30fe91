"""Which backend runs a model: the one visible table."""

from __future__ import annotations

from collections.abc import Callable

from vivace.backends.protocol import Backend, DTypeName
from vivace.core.config import EngineConfig
from vivace.core.errors import BackendError


def _cpu(dtype: DTypeName, threads: int) -> Backend:
    from vivace.backends.cpu import CpuBackend

    return CpuBackend(dtype, threads)


def _reference(dtype: DTypeName, threads: int) -> Backend:
    from vivace.backends.reference import ReferenceBackend

    return ReferenceBackend(dtype)


def _torch(dtype: DTypeName, threads: int) -> Backend:
    from vivace.backends.torch import TorchBackend

    return TorchBackend(dtype)


# Imports are made inside: no backend may cost the start of another.
BACKENDS: dict[str, Callable[[DTypeName, int], Backend]] = {
    "cpu": _cpu,
    "reference": _reference,
    "torch": _torch,
}


def choose_backend(
    config: EngineConfig, stored_dtype: str, threads: int, notify: Callable[[str], None]
) -> Backend:
    """The backend asked for; "auto" is cpu, or reference with a notice where cpu was not built.

    Raises:
        BackendError: it cannot run here.
    """
    if config.backend != "auto":
        return BACKENDS[config.backend](_dtype(config, config.backend, stored_dtype), threads)
    try:
        return _cpu(_dtype(config, "cpu", stored_dtype), threads)
    except BackendError as error:
        notify(f"{error} Running on the slow reference backend.")
        return _reference(_dtype(config, "reference", stored_dtype), threads)


def _dtype(config: EngineConfig, backend: str, stored_dtype: str) -> DTypeName:
    """bfloat16 where it is stored in 16 bits, but for the reference, which is slower in it."""
    if config.dtype != "auto":
        return config.dtype
    return "float32" if backend == "reference" or stored_dtype == "float32" else "bfloat16"
