"""The native backend: C++ kernels for this machine's instruction set, chosen at run time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vivace.backends.protocol import DTypeName
from vivace.core.errors import BackendError, UsageError
from vivace.hardware.machine import usable_cores

if TYPE_CHECKING:
    from vivace.backends.cpu.backend import NativeBackend
    from vivace.backends.cpu.packed import PackedStore

__all__ = ["CpuBackend", "packed_store"]


def CpuBackend(  # noqa: N802 (a backend's name, as the others')
    dtype: DTypeName = "float32",
    threads: int | None = None,
    isa: str | None = None,
    store: PackedStore | None = None,
) -> NativeBackend:
    """A `Backend` on this machine's cores.

    Args:
        dtype: what weights, matmul inputs and KV pages are kept in.
        threads: None is as many as the cores that this process may use.
        isa: "portable", "avx2", "avx512", "avx512bf16", "amx" or "neon"; None is the
            environment's VIVACE_ISA, or else the best there is.
        store: where packed weights are kept from one start to the next (packed.py).

    Raises:
        BackendError: the native code was not built, or the level does not exist here.
    """
    with _native_code():
        from vivace.backends.cpu.backend import NativeBackend
    level = isa if isa is not None else os.environ.get("VIVACE_ISA", "")
    return NativeBackend(dtype, threads or usable_cores(), level, store)


def packed_store(
    files: Iterable[Path], cut: str, notify: Callable[[str], None]
) -> PackedStore | None:
    """What is kept of a checkpoint's packed weights in the user's cache folder, if there is one.

    Args:
        files: that its weights stand in.
        cut: as `PackedStore` takes it.
        notify: told why nothing can be kept.

    Raises:
        BackendError: the native code was not built.
    """
    with _native_code():
        from vivace.backends.cpu.packed import PackedStore
    from vivace.backends.cpu.cache_folder import CacheFolder

    try:
        cache = CacheFolder(notify=notify)
    except UsageError as error:
        notify(f"Packed weights are not kept, and the next start packs again. {error}")
        return None
    return PackedStore(files, cache, cut)


@contextmanager
def _native_code() -> Iterator[None]:
    """Says what to do where an import inside fails."""
    try:
        yield
    except ImportError as error:
        raise BackendError(
            "vivace was installed without its native CPU backend: install a C++20 compiler and "
            f"run `pip install --force-reinstall --no-deps vivace` again ({error})."
        ) from error
