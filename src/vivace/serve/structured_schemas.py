"""What a client may send to say what an answer must be, by OpenAI's, vLLM's and its older names."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from vivace.core.structured import MAX_CHARACTERS
from vivace.serve.strict import Body, ListOf, Neutral

Text: TypeAlias = Annotated[str, Field(max_length=MAX_CHARACTERS)]
Choices: TypeAlias = Annotated[ListOf[Text], Field(min_length=1)]


class JsonSchemaFormat(Body):
    """`strict` true or not, an answer is always an instance of the schema."""

    name: str | None = None
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class Structure(Body):
    begin: str
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    end: str


class ResponseFormat(Body):
    """What else is given must belong to the type; see structured.py."""

    type: Literal["text", "json_object", "json_schema", "structural_tag"]
    json_schema: JsonSchemaFormat | None = None
    structures: ListOf[Structure] | None = None
    triggers: ListOf[str] | None = None


class StructuredOutputs(Body):
    """As vLLM's."""

    neutral: ClassVar[Neutral] = {
        "disable_additional_properties": (False,),
        "disable_fallback": (False, True),
    }

    json_: Annotated[str | dict[str, Any] | None, Field(alias="json")] = None
    regex: Text | None = None
    choice: Choices | None = None
    grammar: Text | None = None
    json_object: bool | None = None
    structural_tag: str | dict[str, Any] | None = None
    disable_any_whitespace: bool | None = None
    whitespace_pattern: Text | None = None
