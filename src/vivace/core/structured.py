"""What the text of an answer must be: `StructuredOutputsParams`, with vLLM's names."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vivace.core.errors import RequestError

PARAM = "structured_outputs"
MAX_CHARACTERS = 2**19  # of a constraint as text
KINDS = ("json", "regex", "choice", "grammar", "json_object", "structural_tag")


@dataclass(frozen=True)
class StructuredOutputsParams:
    """Exactly one of the first six is given. Schemas and lists are kept as text and as tuples, so
    that equal constraints are equal and can be looked up.

    Attributes:
        json: a JSON schema that the answer is an instance of; text, an object or a boolean.
        regex: what the whole answer matches, in the syntax of Rust's regex crate.
        choice: the answers that are possible.
        grammar: Lark in llguidance's dialect, or GBNF.
        json_object: any JSON object.
        structural_tag: free text in which what stands between certain tags fits their schemas: a
            map with `triggers` and `structures`, each with `begin`, `schema` and `end`.
        disable_any_whitespace: JSON without any space; otherwise it is written as Python does it,
            with one space behind each comma and colon.
        whitespace_pattern: a regex of what may stand between the parts of JSON instead.
        after: the constraint begins behind the first such text and at most two line ends; what
            comes before is free.
        opening: where given, that is so only for answers that begin with this text; the others are
            constrained from the first token on.

    Raises:
        RequestError: none or several are given, one is of a wrong type, or there is an `opening`
            without `after`.
    """

    json: str | Mapping[str, Any] | bool | None = None
    regex: str | None = None
    choice: tuple[str, ...] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | Mapping[str, Any] | None = None
    disable_any_whitespace: bool = False
    whitespace_pattern: str | None = None
    after: str | None = None
    opening: str | None = None

    def __post_init__(self) -> None:
        given = [kind for kind in KINDS if getattr(self, kind) not in (None, False)]
        if self.json is False:
            raise _refusal("json is false, which nothing fits")
        if len(given) != 1:
            raise _refusal(f"give exactly one of {', '.join(KINDS)}, not {len(given)}")
        for name in ("json", "structural_tag"):
            self._keep_as_text(name)
        for name in ("regex", "grammar", "whitespace_pattern", "after", "opening"):
            value = getattr(self, name)
            _require(value is None or isinstance(value, str), f"{name} must be a string")
        for name in ("disable_any_whitespace", "json_object"):
            _require(getattr(self, name) in (None, True, False), f"{name} must be true or false")
        _require(self.opening is None or self.after is not None, "opening needs after")
        self._keep_choices()
        size = sum(len(value) for value in vars(self).values() if isinstance(value, str))
        _require(size <= MAX_CHARACTERS, f"it must have at most {MAX_CHARACTERS} characters")

    @property
    def kind(self) -> str:
        """Which one of them is given."""
        return next(kind for kind in KINDS if getattr(self, kind) not in (None, False))

    def _keep_as_text(self, name: str) -> None:
        value = getattr(self, name)
        if value is None or isinstance(value, str):
            return
        _require(isinstance(value, Mapping | bool), f"{name} must be text or an object")
        try:
            text = json_format.dumps(value)
        except (TypeError, ValueError, RecursionError) as error:
            raise _refusal(f"{name} is no JSON: {error}") from None
        object.__setattr__(self, name, text)

    def _keep_choices(self) -> None:
        if self.choice is None:
            return
        listed = isinstance(self.choice, Iterable) and not isinstance(self.choice, str)
        choices = tuple(self.choice) if listed else ()
        holds = bool(choices) and all(isinstance(one, str) for one in choices)
        _require(holds, "choice must be a list of at least one string")
        _require(sum(map(len, choices)) <= MAX_CHARACTERS, "choice is too long")
        object.__setattr__(self, "choice", choices)


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise _refusal(rule)


def _refusal(what: str) -> RequestError:
    return RequestError(f"{PARAM}: {what}.", PARAM)
