"""Pins outlive an engine that is lost: the next one computes them again."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from vivace.core.request import Delta, Request

_log = logging.getLogger("vivace")
_PINNED = ("stop", "length")  # the finish reasons that leave a pin behind


class KeptPins:
    """The requests that pinned a prefix, by their ids."""

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests.values())

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(one.pin_id for one in self if one.pin_id is not None)

    def ended(self, request: Request, reason: str | None) -> None:
        """A request has ended: what it asked to pin is pinned now."""
        if request.pin_id is not None and reason in _PINNED:
            self._requests[request.request_id] = request

    def saw(self, delta: Delta) -> None:
        """Something was said that nobody waits for: a pin asked for again may have been refused."""
        if delta.error is not None and (request := self._requests.pop(delta.request_id, None)):
            _log.warning("%s could not be pinned again: %s", request.pin_id, delta.error)

    def remove(self, pin_id: str) -> list[Request]:
        """The requests that asked for it, which may be asked for again right now."""
        found = [one for one in self if one.pin_id == pin_id]
        for request in found:
            del self._requests[request.request_id]
        return found
