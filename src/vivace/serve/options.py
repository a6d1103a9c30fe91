"""What a user can set about the server; each field has one default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from vivace.core.errors import UsageError

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
_CHOICES: dict[str, tuple[str, ...]] = {
    "log_format": get_args(LogFormat),
    "log_level": get_args(LogLevel),
}


@dataclass(frozen=True)
class ServeOptions:
    """Attributes:
    served_model_name: what clients call the model; None is the name it was loaded by.
    api_key: what clients must bring as a bearer token; None is no check.
    api_key_file: more keys, each a line such as NAME SHA256 max_concurrent=4 max_per_minute=60;
        the limits may be left out.
    admin_key: what administrators bring as theirs; None refuses their calls.
    max_body_bytes: larger request bodies are refused.
    log_format: of the lines on standard error, "text" or "json".
    log_level: "debug", "info", "warning" or "error"; what is less is not logged.
    access_log: a line for each request that ended and each call that was refused.
    otlp_traces_endpoint: where spans go by OTLP over HTTP, such as
        http://127.0.0.1:4318/v1/traces; None is no traces.
    canary_interval_seconds: how long after one look at the model's canary another is taken, once
        nobody asks.
    canary_fail_ready: /ready fails while the canary has drifted, and until it was looked at.

    Raises:
        UsageError: a choice is unknown, or the interval is not above 0.
    """

    served_model_name: str | None = None
    api_key: str | None = None
    api_key_file: str | None = None
    admin_key: str | None = None
    max_body_bytes: int = 10 * 2**20
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    access_log: bool = True
    otlp_traces_endpoint: str | None = None
    canary_interval_seconds: float = 600.0
    canary_fail_ready: bool = False

    def __post_init__(self) -> None:
        for option, choices in _CHOICES.items():
            if getattr(self, option) not in choices:
                raise UsageError(f"{option} must be one of {', '.join(choices)}.")
        if not self.canary_interval_seconds > 0:
            raise UsageError("canary_interval_seconds must be above 0.")
