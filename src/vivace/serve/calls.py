"""One HTTP call as the engine sees it: the requests that answer it, and what they used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from vivace.core.request import Delta, Request


@dataclass(frozen=True)
class Call:
    """Attributes:
    call_id: the id in the answer; the requests' ids begin with it.
    created: seconds since 1970.
    requests: n for each prompt in turn; a request's place is its choice's index.
    num_choices: n.
    """

    call_id: str
    created: int
    model: str
    fingerprint: str
    requests: Sequence[Request]
    num_choices: int
    include_usage: bool = False
    return_token_ids: bool = False

    def head(self, object_name: str) -> dict[str, Any]:
        """What every object of the answer begins with."""
        return {
            "id": self.call_id,
            "object": object_name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


@dataclass
class Usage:
    """Tokens of a call so far. A prompt counts once, however many choices it has."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, call: Call) -> Usage:
        prompts = call.requests[:: call.num_choices]
        return cls(sum(len(request.prompt_token_ids) for request in prompts))

    def take(self, index: int, delta: Delta, call: Call) -> None:
        self.completion_tokens += len(delta.token_ids)
        if index % call.num_choices == 0:
            known = self.cached_tokens.get(index, 0)
            self.cached_tokens[index] = max(known, delta.num_cached_tokens)

    def body(self) -> dict[str, Any]:
        """OpenAI's usage object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(self.cached_tokens.values())},
        }
