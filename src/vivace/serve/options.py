"""What a user can set about the server; each field has one default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServeOptions:
    """Attributes:
    served_model_name: what clients call the model; None is the name it was loaded by.
    api_key: what clients must bring as a bearer token under /v1; None is no check.
    max_body_bytes: larger bodies are refused.
    """

    served_model_name: str | None = None
    api_key: str | None = None
    max_body_bytes: int = 10 * 2**20
