"""Where the layers of a KV cache lie."""

from __future__ import annotations

import pytest

pytest.importorskip("vivace.backends.cpu._native", reason="vivace was built without a compiler")

from vivace.backends.cpu import _native
from vivace.backends.cpu.kv_memory import spread_pages


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


def test_a_small_cache_has_no_page_too_many() -> None:
    assert spread_pages(16, 4096, 8) == 16
    assert spread_pages(4096, 65536, 1) == 4096
