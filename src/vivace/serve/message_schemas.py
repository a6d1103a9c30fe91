"""What Anthropic's clients may send; as strict as schemas.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vivace.serve.schemas import MAX_STOPS, StandingBody
from vivace.serve.strict import Body, Int64, ListOf, Neutral


class TextBlock(Body):
    """Caches need no word: what can be shared is."""

    neutral: ClassVar[Neutral] = {
        "cache_control": ({"type": "ephemeral"},),
        "citations": ([],),
    }

    type: Literal["text"]
    text: str


class Turn(Body):
    role: Literal["user", "assistant"]
    content: str | ListOf[TextBlock]


class Metadata(Body):
    user_id: str | None = None


class ConversationBody(StandingBody):
    """POST /v1/messages/count_tokens."""

    neutral: ClassVar[Neutral] = {
        "mcp_servers": ([],),
        "thinking": ({"type": "disabled"},),
        "tool_choice": ({"type": "auto"}, {"type": "none"}),
        "tools": ([],),
    }

    messages: Annotated[ListOf[Turn], Field(min_length=1)]
    system: str | ListOf[TextBlock] | None = None


class MessagesBody(ConversationBody):
    """POST /v1/messages."""

    neutral: ClassVar[Neutral] = {
        **ConversationBody.neutral,
        "container": (),
        "context_management": (),
        "service_tier": ("auto", "standard_only"),
    }

    max_tokens: Int64
    metadata: Metadata | None = None
    stop_sequences: Annotated[
        ListOf[Annotated[str, Field(min_length=1)]] | None, Field(max_length=MAX_STOPS)
    ] = None
    stream: bool | None = None
    temperature: float | None = None
    top_k: Int64 | None = None
    top_p: float | None = None
