"""A page away from the device, and the file that keeps one."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import NamedTuple

MAGIC = b"VVKV"
VERSION = 1  # raised when the same file comes to mean something else

_HEADER = struct.Struct("<4sHHIQ32s32s32s")
_CHECKSUM_BYTES = 16


class PageKey(NamedTuple):
    """Attributes:
    digest: of the prefix that ends with the block (chain.py).
    group: the KV group whose page it is.
    """

    digest: bytes
    group: int


@dataclass(frozen=True)
class StoredPage:
    """One KV group's page of one full block.

    Attributes:
        parent: the digest of the prefix before the block.
        tokens: the block's own.
        data: the page over all layers, as the backend gave it.
    """

    parent: bytes
    tokens: tuple[int, ...]
    data: bytes

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def holds(self, parent: bytes, tokens: tuple[int, ...]) -> bool:
        """Whether it is that block behind that prefix: equal digests are not believed alone."""
        return self.parent == parent and self.tokens == tokens


def encode(fingerprint: bytes, key: PageKey, page: StoredPage) -> bytes:
    """The whole file: a header, the tokens, the page, and a checksum of all before it."""
    header = _HEADER.pack(
        MAGIC,
        VERSION,
        key.group,
        len(page.tokens),
        len(page.data),
        fingerprint,
        key.digest,
        page.parent,
    )
    body = header + struct.pack(f"<{len(page.tokens)}q", *page.tokens) + page.data
    return body + _checksum(body)


def decode(file: bytes, fingerprint: bytes, key: PageKey) -> StoredPage:
    """The page in a file.

    Raises:
        ValueError: a byte of it differs from what was written for this key.
    """
    body, checksum = file[:-_CHECKSUM_BYTES], file[-_CHECKSUM_BYTES:]
    if len(body) < _HEADER.size or _checksum(body) != checksum:
        raise ValueError("the file is damaged")
    magic, version, group, num_tokens, num_bytes, model, digest, parent = _HEADER.unpack_from(body)
    if (magic, version, model, digest, group) != (MAGIC, VERSION, fingerprint, *key):
        raise ValueError("the file is of another page or version")
    start = _HEADER.size + 8 * num_tokens
    if start + num_bytes != len(body):
        raise ValueError("the file has another length")
    tokens = struct.unpack_from(f"<{num_tokens}q", body, _HEADER.size)
    return StoredPage(parent, tokens, body[start:])


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest()
