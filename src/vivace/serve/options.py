"""What a user can set about the server; each field has one default."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any

from vivace.core.errors import UsageError
from vivace.core.kinds import is_number

_TIMES = ("engine_hang_seconds", "drain_timeout", "slow_sender_timeout", "slow_reader_timeout")


@dataclass(frozen=True)
class ServeOptions:
    """Attributes:
    served_model_name: what clients call the model; None is the name it was loaded by.
    api_key: what clients must bring as a bearer token; None is no check.
    api_key_file: more keys, each a line such as NAME SHA256 max_concurrent=4 max_per_minute=60;
        the limits may be left out.
    admin_key: what administrators bring as theirs; None refuses their calls.
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

    Raises:
        UsageError: a time is no number above 0.
    """

    served_model_name: str | None = None
    api_key: str | None = None
    api_key_file: str | None = None
    admin_key: str | None = None
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

    def __post_init__(self) -> None:
        for option in _TIMES:
            time: Any = getattr(self, option)
            if not (is_number(time) and 0 < time < inf):
                raise UsageError(f"{option} must be a number above 0, got {time!r}.")
