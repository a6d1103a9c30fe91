"""An engine's options are checked before anything is opened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vivace.core.config import EngineConfig, parse_weights
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
    "max_queued_requests",
    "max_queued_tokens",
    "kv_host_bytes",
    "kv_disk_bytes",
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


@pytest.mark.parametrize(
    ("option", "value"),
    [("backend", "abacus"), ("dtype", "float16"), ("kv_cache_dtype", "float32")],
)
def test_choices_are_listed(option: str, value: str) -> None:
    wrong: dict[str, Any] = {option: value}
    with pytest.raises(UsageError, match=f"^{option} must be one of auto, "):
        EngineConfig(**wrong)


@pytest.mark.parametrize("option", ["target_itl_ms", "target_ttft_ms"])
@pytest.mark.parametrize("value", [0, -1.5, "8", True, float("nan"), float("inf")])
def test_targets_are_numbers_above_0(option: str, value: object) -> None:
    wrong: dict[str, Any] = {option: value}
    with pytest.raises(UsageError, match=f"^{option} must be a number above 0, got"):
        EngineConfig(**wrong)


def test_disk_is_reached_through_host_memory() -> None:
    with pytest.raises(UsageError, match="kv_disk_bytes needs kv_host_bytes"):
        EngineConfig(kv_disk_bytes=1)


def test_numpy_integers_are_integers() -> None:
    EngineConfig(threads=np.int64(2), max_model_len=np.int32(9))  # type: ignore[arg-type]


def test_weights_are_numbers_by_name() -> None:
    assert parse_weights("alice=2, a=b=0.5") == {"alice": 2.0, "a=b": 0.5}
    assert parse_weights(None) == {}


@pytest.mark.parametrize("text", ["alice", "=2", "a=0", "a=nan", "a=1,a=2", "a=1,"])
def test_other_weights_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"^tenant_weights must be like"):
        EngineConfig(tenant_weights=text)


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf"), "9", True])
def test_a_wait_is_a_number_above_zero(seconds: Any) -> None:
    with pytest.raises(UsageError, match=r"^max_wait_seconds must be a number above 0"):
        EngineConfig(max_wait_seconds=seconds)
