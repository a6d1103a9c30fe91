"""Functions that a model may call, as OpenAI's clients describe them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from vivace.serve.strict import Body

FunctionName: TypeAlias = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]


class Function(Body):
    """`strict` holds calls to the parameters' schema also where the model may choose to call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    type: Literal["function"]
    function: Function


class FunctionChoice(Body):
    name: FunctionName


class NamedTool(Body):
    type: Literal["function"]
    function: FunctionChoice


ToolChoice: TypeAlias = Annotated[
    Literal["none", "auto", "required"] | NamedTool,
    Field(description='"none", "auto", "required", or a function by its name'),
]
