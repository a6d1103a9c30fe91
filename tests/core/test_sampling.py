"""Sampling parameters of a wrong type are refused by name, before they reach an engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vivace.core.errors import RequestError
from vivace.core.sampling import SamplingParams

pytestmark = pytest.mark.tiny


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("n", 1.5),
        ("n", True),
        ("n", None),
        ("top_k", 2.5),
        ("min_tokens", "1"),
        ("max_tokens", 2.5),
        ("max_tokens", True),
        ("logprobs", "5"),
        ("logprobs", False),
        ("seed", "a"),
        ("temperature", "1"),
        ("temperature", None),
        ("temperature", True),
        ("temperature", float("inf")),
        ("top_p", [0.5]),
        ("stop", 5),
        ("stop", [5]),
        ("stop", b"end"),
        ("stop_token_ids", 7),
        ("stop_token_ids", "7"),
        ("stop_token_ids", [1.0]),
        ("logit_bias", [1]),
        ("logit_bias", {"1": 1.0}),
        ("logit_bias", {1: "1"}),
        ("logit_bias", {1: float("nan")}),
    ],
)
def test_wrong_types_are_refused_by_name(param: str, value: object) -> None:
    wrong: dict[str, Any] = {param: value}
    with pytest.raises(RequestError, match=f"^{param} must be ") as caught:
        SamplingParams(**wrong)
    assert caught.value.param == param


def test_numpy_numbers_and_lists_are_as_good_as_pythons() -> None:
    given: dict[str, Any] = {
        "top_k": np.int64(5),
        "max_tokens": np.int32(7),
        "temperature": np.float32(0.5),
        "seed": np.uint8(3),
        "stop_token_ids": np.array([4, 5]),
        "logit_bias": {np.int64(1): np.float64(2)},
    }
    assert SamplingParams(**given) == SamplingParams(
        top_k=5,
        max_tokens=7,
        temperature=0.5,
        seed=3,
        stop_token_ids=(4, 5),
        logit_bias={1: 2.0},
    )


def test_none_is_nothing() -> None:
    nothing: dict[str, Any] = {"stop": None, "stop_token_ids": None, "logit_bias": None}
    assert SamplingParams(**nothing) == SamplingParams()
