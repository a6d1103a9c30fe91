"""Keys and values in the pages of the cpu backend (native/kv_layout.hpp)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from vivace.backends.page_bytes import PageBytes
from vivace.backends.protocol import PAGE_TOKENS, DTypeName, KVSpec

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class PageTokens:
    """One layer's pages that are not packed.

    Attributes:
        content: [pages, bytes], contiguous; `write` fills it.
    """

    content: PageBytes
    spec: KVSpec
    dtype: DTypeName

    def read(self) -> tuple[Floats, Floats]:
        """Keys and values, each [16 * pages, kv_heads, head_dim]."""
        keys, values = (
            stored.reshape(len(self.content) * PAGE_TOKENS, self.spec.num_kv_heads, -1)
            for stored in self._stored()
        )
        size = self.spec.head_dim
        return keys[..., :size].astype(np.float32), values[..., :size].astype(np.float32)

    def write(self, keys: Floats, values: Floats) -> None:
        """The inverse of `read`."""
        for stored, tokens in zip(self._stored(), (keys, values), strict=True):
            padded = np.zeros(stored.shape, stored.dtype)
            flat = padded.reshape(*tokens.shape[:2], -1)
            flat[..., : self.spec.head_dim] = tokens.astype(stored.dtype)
            stored[...] = padded

    def _stored(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Views of keys [pages, 16, kv_heads, pairs of values, 2] and values
        [pages, pairs of tokens, 2, kv_heads, values]; of float32 there is one where bfloat16 has
        two."""
        wide = self.dtype == "float32"
        numbers = self.content.view(np.float32 if wide else ml_dtypes.bfloat16)
        pages, heads, pair = len(self.content), self.spec.num_kv_heads, 1 if wide else 2
        key_width = -(-self.spec.head_dim // pair) * pair
        value_width = -(-self.spec.head_dim // 16) * 16
        by_head = numbers.reshape(pages, heads, (key_width + value_width) * PAGE_TOKENS)
        keys = by_head[..., : key_width * PAGE_TOKENS]
        values = by_head[..., key_width * PAGE_TOKENS :]
        keys = keys.reshape(pages, heads, key_width // pair, PAGE_TOKENS, pair)
        values = values.reshape(pages, heads, PAGE_TOKENS // pair, value_width, pair)
        return keys.transpose(0, 3, 1, 2, 4), values.transpose(0, 2, 4, 1, 3)
