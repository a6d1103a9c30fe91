"""What POST /v1/responses takes; as strict as schemas.py."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from vivace.serve.schemas import StandingBody
from vivace.serve.strict import Body, Int64, ListOf, Neutral


class InputText(Body):
    neutral: ClassVar[Neutral] = {"annotations": ([],), "logprobs": ([],)}

    type: Literal["input_text", "output_text"]
    text: str


class InputMessage(Body):
    """A turn, or an earlier answer as it was given."""

    type: Literal["message"] | None = None
    role: Literal["system", "developer", "user", "assistant"]
    content: str | ListOf[InputText]
    id: str | None = None
    status: str | None = None


class ResponsesBody(StandingBody):
    """POST /v1/responses, without memory: a call brings the whole conversation."""

    neutral: ClassVar[Neutral] = {
        "background": (False,),
        "conversation": (),
        "include": ([],),
        "max_tool_calls": (),
        "metadata": ({},),
        "parallel_tool_calls": (False, True),
        "previous_response_id": (),
        "prompt": (),
        "reasoning": ({},),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "stream_options": ({},),
        "text": ({}, {"format": {"type": "text"}}),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    input: Annotated[
        str | Annotated[ListOf[InputMessage], Field(min_length=1)],
        Field(description="a string or a list of messages with text"),
    ]
    instructions: str | None = None
    max_output_tokens: Int64 | None = None
    prompt_cache_key: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
