"""What a body asks of an answer's form, by whichever name, as one constraint."""

from __future__ import annotations

from typing import Any

from vivace.core.errors import RequestError
from vivace.core.structured import PARAM, StructuredOutputsParams
from vivace.serve.errors import ApiError
from vivace.serve.prompts import called
from vivace.serve.schemas import GenerationBody
from vivace.serve.structured_schemas import ResponseFormat, StructuredOutputs

_GUIDED = ("json", "regex", "choice", "grammar")
NAMES = ("response_format", PARAM, *(f"guided_{kind}" for kind in _GUIDED))


def constraint_name(body: GenerationBody) -> str | None:
    """The parameter that constrains the answer; None where none does.

    Raises:
        RequestError: several do.
    """
    given = [name for name in NAMES if _constrains(getattr(body, name))]
    if len(given) > 1:
        raise RequestError(f"Give only one of {' and '.join(given)}.", given[1])
    return given[0] if given else None


def constraint(body: GenerationBody) -> StructuredOutputsParams | None:
    """Raises RequestError, whose `param` is the one that the caller used."""
    name = constraint_name(body)
    if name is None:
        return None
    with called(**{PARAM: name}):
        return StructuredOutputsParams(**_fields(name, getattr(body, name)))


def renamed(error: ApiError, name: str) -> ApiError:
    """What the engine says of a constraint, said of the name that its caller knows."""
    if error.param != PARAM or name == PARAM:
        return error
    message = str(error).replace(PARAM, name, 1)
    return ApiError(error.status, message, name, error.code, error.headers)


def _constrains(value: Any) -> bool:
    return value is not None and not (isinstance(value, ResponseFormat) and value.type == "text")


def _fields(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, ResponseFormat):
        return _response_format(value)
    if isinstance(value, StructuredOutputs):
        given = value.model_dump(exclude_none=True, by_alias=True)
        return {key: one for key, one in given.items() if one is not False}
    return {name.removeprefix("guided_"): value}


def _response_format(value: ResponseFormat) -> dict[str, Any]:
    if value.type == "json_object":
        return {"json_object": True}
    if value.type == "json_schema":
        if value.json_schema is None:
            raise RequestError("response_format needs json_schema.", "response_format")
        return {"json": value.json_schema.schema_}
    tag = value.model_dump(include={"structures", "triggers"}, by_alias=True, exclude_none=True)
    return {"structural_tag": tag}
