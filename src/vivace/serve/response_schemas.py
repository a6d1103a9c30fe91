"""What POST /v1/responses takes; as strict as schemas.py."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag

from vivace.serve.schemas import MAX_TOOLS, StandingBody
from vivace.serve.strict import Body, Int64, ListOf, Neutral
from vivace.serve.tool_schemas import FunctionName


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


class InputCall(Body):
    """An earlier call of a function, as it was answered."""

    type: Literal["function_call"]
    call_id: Annotated[str, Field(min_length=1)]
    name: FunctionName
    arguments: str
    id: str | None = None
    status: str | None = None


class InputCallOutput(Body):
    """What a function that was called has given."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, Field(min_length=1)]
    output: str | ListOf[InputText]
    id: str | None = None
    status: str | None = None


def _kind(item: Any) -> Any:
    """A message need not say that it is one."""
    kind = item.get("type") if isinstance(item, dict) else getattr(item, "type", None)
    return "message" if kind is None else kind


InputItem: TypeAlias = Annotated[
    Annotated[InputMessage, Tag("message")]
    | Annotated[InputCall, Tag("function_call")]
    | Annotated[InputCallOutput, Tag("function_call_output")],
    Discriminator(_kind),
]


class ResponseTool(Body):
    """A function. `strict` holds calls to the parameters' schema also where the model may choose
    to call."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChosenFunction(Body):
    type: Literal["function"]
    name: FunctionName


class ResponsesBody(StandingBody):
    """POST /v1/responses, without memory: a call brings the whole conversation."""

    neutral: ClassVar[Neutral] = {
        "background": (False,),
        "conversation": (),
        "include": ([],),
        "max_tool_calls": (),
        "metadata": ({},),
        "previous_response_id": (),
        "prompt": (),
        "reasoning": ({},),
        "service_tier": ("auto", "default"),
        "store": (False,),
        "stream_options": ({},),
        "text": ({}, {"format": {"type": "text"}}),
        "top_logprobs": (0,),
        "truncation": ("disabled",),
    }

    input: Annotated[
        str | Annotated[ListOf[InputItem], Field(min_length=1)],
        Field(description="a string or a list of messages with text, calls and their outputs"),
    ]
    instructions: str | None = None
    max_output_tokens: Int64 | None = None
    prompt_cache_key: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools: Annotated[ListOf[ResponseTool] | None, Field(max_length=MAX_TOOLS)] = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | ChosenFunction | None,
        Field(description='"none", "auto", "required", or a function by its name'),
    ] = None
    parallel_tool_calls: bool | None = None
