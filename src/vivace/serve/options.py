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
    tool_call_parser: how the model writes calls of tools: hermes, llama3_json or mistral; None is
        what its chat template looks like.
    reasoning_parser: how it marks reasoning: deepseek_r1, which always reasons, or qwen3; likewise.
    max_body_bytes: larger request bodies are refused.
    """

    served_model_name: str | None = None
    api_key: str | None = None
    api_key_file: str | None = None
    admin_key: str | None = None
    tool_call_parser: str | None = None
    reasoning_parser: str | None = None
    max_body_bytes: int = 10 * 2**20
