"""Who may call, and how much. Keys are kept as their SHA-256 alone: they are long and random, and
need nothing slower."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from starlette.datastructures import Headers

from vivace.core.errors import UsageError
from vivace.serve.errors import ApiError, limited
from vivace.serve.options import ServeOptions

_LINE = re.compile(
    r"(?P<name>\S+)\s+(?P<digest>[0-9a-fA-F]{64})"
    r"(?:\s+max_concurrent=(?P<max_concurrent>[1-9]\d*))?"
    r"(?:\s+max_per_minute=(?P<max_per_minute>[1-9]\d*))?"
)
_MINUTE = 60.0


@dataclass(frozen=True)
class Caller:
    """Whom a key stands for.

    Attributes:
        name: the tenant, unless a call names another.
        max_concurrent: calls at once; None is no limit.
        max_per_minute: calls begun, as an average with a burst of as many; None is no limit.
    """

    name: str
    max_concurrent: int | None = None
    max_per_minute: int | None = None


class Meter:
    """Counts what one caller does.

    Args:
        clock: seconds.
    """

    def __init__(self, caller: Caller, clock: Callable[[], float] = time.monotonic) -> None:
        self._caller = caller
        self._clock = clock
        self._running = 0
        self._allowed = float(caller.max_per_minute or 0)  # a bucket that fills by itself
        self._filled = clock()

    def enter(self) -> None:
        """A call begins.

        Raises:
            ApiError: 429, with the time to wait; the call does not count.
        """
        caller = self._caller
        if caller.max_concurrent is not None and self._running >= caller.max_concurrent:
            raise limited(f"This key may have {caller.max_concurrent} calls at once.", 1.0)
        if caller.max_per_minute is not None:
            self._take(caller.max_per_minute)
        self._running += 1

    def leave(self) -> None:
        """A call has ended."""
        self._running -= 1

    def _take(self, per_minute: int) -> None:
        now = self._clock()
        fresh = (now - self._filled) * per_minute / _MINUTE
        self._allowed, self._filled = min(float(per_minute), self._allowed + fresh), now
        if self._allowed < 1:
            wait = (1 - self._allowed) * _MINUTE / per_minute
            raise limited(f"This key may begin {per_minute} calls a minute.", wait)
        self._allowed -= 1


class KeyRing:
    """The keys of one server.

    Args:
        callers: by the SHA-256 of their keys; none lets everybody call.
        admin: the SHA-256 of the administrators' key; None refuses their calls.
    """

    def __init__(self, callers: Mapping[bytes, Caller], admin: bytes | None = None) -> None:
        self._callers = dict(callers)
        self._meters = {caller: Meter(caller) for caller in self._callers.values()}
        self._admin = admin

    def caller(self, headers: Headers) -> Caller:
        """Raises ApiError (401) where the key is missing or wrong."""
        key = _key(headers)
        if not self._callers:
            return Caller("" if key is None else f"key-{_digest(key).hex()[:16]}")
        caller = None if key is None else self._callers.get(_digest(key))
        if caller is None:
            raise _unknown("Send this server's key as 'Authorization: Bearer KEY'.")
        return caller

    def meter(self, caller: Caller) -> Meter:
        return self._meters.get(caller) or Meter(caller)

    def check_admin(self, headers: Headers) -> None:
        """Raises ApiError: 403 where nobody may, 401 where the key is missing or wrong."""
        if self._admin is None:
            raise ApiError(403, "Start the server with --admin-key to allow this.", code="no_admin")
        key = _key(headers)
        if key is None or not hmac.compare_digest(_digest(key), self._admin):
            raise _unknown("Send the administrators' key as 'Authorization: Bearer KEY'.")


def load_keys(options: ServeOptions) -> KeyRing:
    """The keys that the options name.

    Raises:
        UsageError: the file of keys cannot be read, or holds what is no key.
    """
    callers: dict[bytes, Caller] = {}
    if options.api_key is not None:
        digest = _digest(options.api_key.encode())
        callers[digest] = Caller(f"key-{digest.hex()[:16]}")
    if options.api_key_file is not None:
        callers |= read_keys(Path(options.api_key_file))
    admin = None if options.admin_key is None else _digest(options.admin_key.encode())
    return KeyRing(callers, admin)


def read_keys(path: Path) -> dict[bytes, Caller]:
    """Callers by the SHA-256 of their keys, from lines such as
    `alice 5e88...42d8 max_concurrent=4 max_per_minute=60`; the limits may be left out. Empty lines
    and lines that begin with # are passed over.

    Raises:
        UsageError: it cannot be read, holds no key, or a line is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The keys in {path} cannot be read: {error}.") from None
    callers: dict[bytes, Caller] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise UsageError(
                f"Line {number} of {path} must be a name, the SHA-256 of a key in hexadecimal, "
                "and perhaps max_concurrent=N max_per_minute=N."
            )
        limits = {name: int(match[name]) for name in _LIMITS if match[name] is not None}
        callers[bytes.fromhex(match["digest"])] = Caller(match["name"], **limits)
    if not callers:
        raise UsageError(f"{path} holds no key.")
    return callers


_LIMITS = ("max_concurrent", "max_per_minute")


def _key(headers: Headers) -> bytes | None:
    """As sent: OpenAI's clients bring a bearer token, Anthropic's an x-api-key."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and bearer:
        return bearer.encode("latin-1")
    other = headers.get("x-api-key")
    return other.encode("latin-1") if other else None


def _digest(key: bytes) -> bytes:
    return sha256(key).digest()


def _unknown(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key")
