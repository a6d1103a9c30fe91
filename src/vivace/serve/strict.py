"""What every part of a body is: strict about types and names, so that nothing is ignored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema

Int64: TypeAlias = Annotated[int, Field(ge=-(2**63), lt=2**63)]

ItemT = TypeVar("ItemT")
# Stops at the first bad item, for the same reason as in `Body._known_only`.
ListOf: TypeAlias = Annotated[list[ItemT], Field(fail_fast=True)]

Neutral: TypeAlias = Mapping[str, tuple[Any, ...]]


class Body(BaseModel):
    """Strict about types ("0.7" is not a number) and about names."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    neutral: ClassVar[Neutral] = {}

    @model_validator(mode="before")
    @classmethod
    def _known_only(cls, fields: Any) -> Any:
        """Leave out unsupported parameters that ask for nothing.

        Of the others one stays, to be refused: a million must not cost a million complaints.
        """
        if not isinstance(fields, dict):
            return fields
        known = {one.alias or name for name, one in cls.model_fields.items()}
        kept: dict[str, Any] = {}
        unknown: dict[str, Any] = {}
        for name, value in fields.items():
            if name in known:
                kept[name] = value
            elif not unknown and not cls._is_neutral(name, value):
                unknown[name] = value
        return kept | unknown

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Say what may be there without asking for anything."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).setdefault("properties", {})
        for name, values in cls.neutral.items():
            properties[name] = {"enum": [None, *values], "description": "Not supported."}
        return schema

    @classmethod
    def _is_neutral(cls, name: str, value: Any) -> bool:
        if name not in cls.neutral:
            return False
        # The type counts too: true equals 1.
        return value is None or any(
            value == other and type(value) is type(other) for other in cls.neutral[name]
        )
