"""The name of a prefix outside the device: a hash chain over its blocks."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from vivace.cache.prefix import PrefixNode, Scope

DIGEST_BYTES = 32


class BlockChain:
    """Digests of prefixes: each covers the fingerprint, the scope and every token before it.

    Args:
        fingerprint: says what the bytes of pages depend on besides: the model, its numbers, the
            format of pages. A prefix has other digests under another one.
    """

    def __init__(self, fingerprint: bytes) -> None:
        self.fingerprint = _digest(fingerprint)

    def root(self, scope: Scope) -> bytes:
        """The empty prefix of a scope that is shared."""
        assert scope.salt is not None
        salt = scope.salt.encode("utf-8", "surrogatepass")
        return _digest(self.fingerprint, f"{scope.sight} ".encode(), salt)

    def after(self, parent: bytes, tokens: Sequence[int]) -> bytes:
        """One more block."""
        return _digest(parent, struct.pack(f"<{len(tokens)}q", *tokens))

    def of(self, node: PrefixNode) -> bytes:
        """A node's own digest, which it remembers."""
        path = []
        while node.digest is None and isinstance(node.key, tuple) and node.parent is not None:
            path.append(node)
            node = node.parent
        if node.digest is None:
            node.digest = self.root(node.scope)
        digest = node.digest
        for child in reversed(path):
            assert isinstance(child.key, tuple)
            digest = child.digest = self.after(digest, child.key)
        return digest


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"".join(parts), digest_size=DIGEST_BYTES).digest()
