"""An engine's options are checked before anything is opened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError

pytestmark = pytest.mark.tiny

COUNTS = (
    "threads",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "max_prefill_chunk",
    "max_prefill_beside_decodes",
    "kv_memory_bytes",
)


@pytest.mark.parametrize("option", COUNTS)
@pytest.mark.parametrize("value", [0, -1, 1.5, "8", True])
def test_counts_are_integers_of_at_least_one(option: str, value: object) -> None:
    wrong: dict[str, Any] = {option: value}
    with pytest.raises(UsageError, match=f"^{option} must be an integer of at least 1, got"):
        EngineConfig(**wrong)


@pytest.mark.parametrize("option", ["backend", "dtype", "max_num_seqs", "max_num_batched_tokens"])
def test_what_has_no_automatic_value_cannot_be_none(option: str) -> None:
    wrong: dict[str, Any] = {option: None}
    with pytest.raises(UsageError, match=f"^{option} must be"):
        EngineConfig(**wrong)


@pytest.mark.parametrize(("option", "value"), [("backend", "abacus"), ("dtype", "float16")])
def test_choices_are_listed(option: str, value: str) -> None:
    wrong: dict[str, Any] = {option: value}
    with pytest.raises(UsageError, match=f"^{option} must be one of auto, "):
        EngineConfig(**wrong)


def test_numpy_integers_are_integers() -> None:
    EngineConfig(threads=np.int64(2), max_model_len=np.int32(9))  # type: ignore[arg-type]
