"""What a user can set about the server; each field has one default."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal, TypeAlias, get_args

from vivace.core.errors import UsageError
from vivace.core.kinds import is_number

LogFormat: TypeAlias = Literal["text", "json"]
LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
_CHOICES: dict[str, tuple[str, ...]] = {
    "log_format": get_args(LogFormat),
    "log_level": get_args(LogLevel),
}
_TIMES = (
    "engine_hang_seconds",
    "drain_timeout",
    "slow_sender_timeout",
    "slow_reader_timeout",
    "canary_interval_seconds",
)


@dataclass(frozen=True)
class ServeOptions:
    """Attributes:
    served_model_name: what clients call the model; None is the name it was loaded by.
    api_key: what clients must bring as a bearer token; None is no check.
    api_key_file: more keys, each a line such as NAME SHA256 max_concurrent=4 max_per_minute=60;
        the limits may be left out.
    admin_key: what administrators bring as theirs; None refuses their calls.
    tool_call_parser: how the model writes calls of tools: hermes, llama3_json or mistral; None is
        what its chat template looks like.
    reasoning_parser: how it marks reasoning: deepseek_r1, which always reasons, or qwen3; likewise.
    max_body_bytes: larger request bodies are refused.
    models: further models, loaded when they are asked for, such as small=PATH,code=PATH.
    max_loaded_models: models that are loaded at once; None is all.
    model_memory_cap: what weights, adapters and KV pages of all loaded models may take together;
        None is what is free.
    model_wait_seconds: how long a call waits for its model to be loaded.
    page: a playground and a live view of the engine at /.
    allowed_origins: origins, parted by commas, whose web pages may call the server; None is none.
    engine_hang_seconds: an engine that has work and makes no step for so long is killed and
        started again; longer than any step takes.
    drain_timeout: seconds that answers have to finish when the server is told to stop.
    slow_sender_timeout: seconds that a client has to send a request.
    slow_reader_timeout: seconds after which a client is cut off that does not read its answer.
    log_format: of the lines on standard error, "text" or "json".
    log_level: "debug", "info", "warning" or "error"; what is less is not logged.
    access_log: a line for each request that ended and each call that was refused.
    otlp_traces_endpoint: where spans go by OTLP over HTTP, such as
        http://127.0.0.1:4318/v1/traces; None is no traces.
    canary_interval_seconds: how long after one look at the model's canary another is taken, once
        nobody asks.
    canary_fail_ready: /ready fails while the canary has drifted, and until it was looked at.

    Raises:
        UsageError: a choice is unknown, or a time is no number above 0.
    """

    served_model_name: str | None = None
    api_key: str | None = None
    api_key_file: str | None = None
    admin_key: str | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    max_body_bytes: int = 10 * 2**20
    models: str | None = None
    max_loaded_models: int | None = None
    model_memory_cap: int | None = None
    model_wait_seconds: float = 120.0
    page: bool = True
    allowed_origins: str | None = None
    engine_hang_seconds: float = 120.0
    drain_timeout: float = 30.0
    slow_sender_timeout: float = 60.0
    slow_reader_timeout: float = 60.0
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
        for option in _TIMES:
            time: Any = getattr(self, option)
            if not (is_number(time) and 0 < time < inf):
                raise UsageError(f"{option} must be a number above 0, got {time!r}.")
