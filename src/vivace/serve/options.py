"""What a user can set about the server; each field has one default."""

from __future__ import annotations

from dataclasses import dataclass


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
