"""Typed reading of config.json, with one clear sentence for what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vivace.core.errors import CheckpointError, UsageError


@dataclass(frozen=True)
class Config:
    """A family's config.json over the family's defaults.

    Attributes:
        values: an explicit null counts as given; an absent key takes the default.
        max_model_len: the longest sequence to load for.
        context_len: the most positions that a row sees; None is max_model_len.
    """

    values: Mapping[str, Any]
    max_model_len: int
    context_len: int | None = None

    @property
    def seen_len(self) -> int:
        """The longest distance between positions that meet, in positions."""
        return self.max_model_len if self.context_len is None else self.context_len

    def integer(self, key: str) -> int:
        """A size or a count: at least 1."""
        value = self.optional_size(key)
        if value is None:
            raise CheckpointError(f"config.json lacks {key}.")
        return value

    def optional_size(self, key: str) -> int | None:
        value = self.optional_integer(key)
        if value is not None and value < 1:
            raise _wrong(key, "at least 1", value)
        return value

    def optional_integer(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise _wrong(key, "an integer", value)
        return value

    def number(self, key: str) -> float:
        value = self.optional_number(key)
        if value is None:
            raise CheckpointError(f"config.json lacks {key}.")
        return value

    def optional_number(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _wrong(key, "a number", value)
        return float(value)

    def flag(self, key: str) -> bool:
        """False where the key is absent or null."""
        value = self.values.get(key)
        if value not in (None, True, False):
            raise _wrong(key, "true or false", value)
        return bool(value)

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if not isinstance(value, str):
            raise _wrong(key, "a string", value)
        return value

    def optional_list(self, key: str) -> list[Any] | None:
        value = self.values.get(key)
        if value is not None and not isinstance(value, list):
            raise _wrong(key, "a list", value)
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        """Empty where the key is absent or null."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise _wrong(key, "an object", value)
        return value or {}

    def check_length(self, length: int, positions: int) -> None:
        """Raises UsageError if a length asked for is past the positions that the model knows."""
        if length > positions:
            raise UsageError(
                f"max_model_len {length} is past the {positions} positions that the model was "
                "trained for; lower it."
            )


def _wrong(key: str, expected: str, value: object) -> CheckpointError:
    return CheckpointError(f"{key} in config.json must be {expected}, got {value!r}.")
