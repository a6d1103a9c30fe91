"""What Anthropic's clients may send; as strict as schemas.py."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from vivace.serve.schemas import MAX_STOPS, MAX_TOOLS, StandingBody
from vivace.serve.strict import Body, Int64, ListOf, Neutral
from vivace.serve.tool_schemas import FunctionName


class TextBlock(Body):
    """Caches need no word: what can be shared is."""

    neutral: ClassVar[Neutral] = {
        "cache_control": ({"type": "ephemeral"},),
        "citations": ([],),
    }

    type: Literal["text"]
    text: str


class ToolUseBlock(Body):
    """An earlier call, as it was answered."""

    neutral: ClassVar[Neutral] = {"cache_control": ({"type": "ephemeral"},), "caller": ()}

    type: Literal["tool_use"]
    id: str
    name: FunctionName
    input: dict[str, Any]


class ToolResultBlock(Body):
    neutral: ClassVar[Neutral] = {"cache_control": ({"type": "ephemeral"},)}

    type: Literal["tool_result"]
    tool_use_id: Annotated[str, Field(min_length=1)]
    content: str | ListOf[TextBlock] | None = None
    is_error: bool | None = None


Block: TypeAlias = Annotated[
    TextBlock | ToolUseBlock | ToolResultBlock, Field(discriminator="type")
]


class Turn(Body):
    role: Literal["user", "assistant"]
    content: str | ListOf[Block]


class MessageTool(Body):
    neutral: ClassVar[Neutral] = {
        "cache_control": ({"type": "ephemeral"},),
        "type": ("custom",),
    }

    name: FunctionName
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None


class MessageToolChoice(Body):
    """`name` belongs to the type tool."""

    type: Literal["auto", "any", "tool", "none"]
    name: FunctionName | None = None
    disable_parallel_tool_use: bool | None = None


class Metadata(Body):
    user_id: str | None = None


class ConversationBody(StandingBody):
    """POST /v1/messages/count_tokens."""

    neutral: ClassVar[Neutral] = {
        "mcp_servers": ([],),
        "thinking": ({"type": "disabled"},),
    }

    messages: Annotated[ListOf[Turn], Field(min_length=1)]
    system: str | ListOf[TextBlock] | None = None
    tools: Annotated[ListOf[MessageTool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: MessageToolChoice | None = None


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
