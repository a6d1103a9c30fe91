"""Errors that a user may see: one sentence each, saying what to do."""

from __future__ import annotations


class VivaceError(Exception):
    """Base of every error whose text is meant for a user.

    Attributes:
        code: a name for programs, where there is one.
    """

    code: str | None = None


class UsageError(VivaceError):
    """The call or the command line is wrong (exit code 2)."""


class CheckpointError(VivaceError):
    """A checkpoint is unknown, incomplete or damaged; nothing was loaded."""


class CapacityError(VivaceError):
    """The machine, or the limits given, cannot hold what was asked for."""

    code = "no_capacity"


class BackendError(VivaceError):
    """A backend is not available here, or does not support what was asked."""


class EngineLostError(BackendError):
    """The engine that had the request is gone; it may be started again."""

    code = "engine_unavailable"


class RequestError(VivaceError):
    """One request is invalid; the engine and other requests are unaffected.

    Attributes:
        param: the name of the offending parameter, when there is one.
        code: what is wrong with it, in OpenAI's words where it has one.
    """

    code: str

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value") -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class OverloadedError(VivaceError):
    """The queue is full; the same request may be accepted later.

    Attributes:
        retry_after_seconds: when there will probably be a place.
        code: the limit that is reached, in the words of vLLM's metrics.
    """

    def __init__(self, message: str, retry_after_seconds: float, code: str) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds
        self.code = code
