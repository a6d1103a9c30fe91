"""Buffers of a tensor that are made only when somebody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vivace.formats.qtensor import Array


class Made(Mapping[str, Array]):
    """Buffers that are made whenever they are asked for: who has packed weights already never
    asks."""

    def __init__(self, makers: Mapping[str, Callable[[], Array]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> Array:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
