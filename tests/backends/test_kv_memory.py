"""Where the layers of a KV cache lie."""

from __future__ import annotations

import psutil
import pytest

pytest.importorskip("vivace.backends.cpu._native", reason="vivace was built without a compiler")

from vivace.backends.cpu import CpuBackend, _native
from vivace.backends.cpu.kv_memory import spread_pages
from vivace.backends.protocol import KVSpec


@pytest.mark.parametrize(
    ("num_pages", "page_bytes", "num_layers"),
    [(2048, 20480, 32), (2048, 16384, 22), (1024, 65536, 32), (5000, 65536, 32), (777, 9984, 30)],
)
def test_few_layers_find_memory_in_the_same_step(
    num_pages: int, page_bytes: int, num_layers: int
) -> None:
    """As pages are taken in order, none of 1/16 of a huge page makes more than an eighth of the
    layers touch a new one."""
    held = spread_pages(num_pages, page_bytes, num_layers)
    assert num_pages <= held < num_pages + 32
    size, step = _native.HUGE_PAGE, _native.HUGE_PAGE // 16
    for begin in range(0, size, step):
        starts = (layer * held * page_bytes + begin for layer in range(num_layers))
        touches = [-start % size < step for start in starts]
        assert sum(touches) <= max(3, num_layers // 8)


@pytest.mark.parametrize("pages", [range(500, 1000), range(1, 1000, 2)], ids=["run", "scattered"])
def test_memory_of_released_pages_goes_back_to_the_system(pages: range) -> None:
    spec = KVSpec(4, 4, 64)  # 16 KiB a page in each layer, 64 MiB in all
    backend = CpuBackend("bfloat16", 1)
    cache = backend.kv_cache(spec, 1000)
    cache.pages[:] = 1
    before = psutil.Process().memory_info().rss
    backend.release_pages(cache, pages)
    given_back = before - psutil.Process().memory_info().rss
    assert given_back >= 0.95 * len(pages) * backend.kv_page_bytes(spec)
    assert (cache.pages[:, pages] == 0).all()
    assert (cache.pages[:, 0] == 1).all()


def test_a_small_cache_has_no_page_too_many() -> None:
    assert spread_pages(16, 4096, 8) == 16
    assert spread_pages(4096, 65536, 1) == 4096
