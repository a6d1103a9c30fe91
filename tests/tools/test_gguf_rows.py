"""How the rows about GGUF files and others' quantizers judge what their benchmarks printed."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.tiny


def files(**changes: Any) -> dict[str, Any]:
    """One type by both, better for ours; then a file of each engine, and one that loads."""
    cost = {
        "theirs": {"value": 0.02},
        "ours": {"value": 0.01},
        "bytes": [1000, 1000],
        "tensor_bytes": [900, 900],
        **changes,
    }
    engines = {"llama.cpp": 1e-3, "vivace": 1e-4, "vivace in float32": 1e-12}
    loads = {"texts": 3, "same_tokens": 3, "same_top1": 0.99, "kl": 1e-4}
    return {
        "types": {"Q4_0": {"plain": cost, "calibrated": cost}},
        "engines": {"Q4_0": engines},
        "loads": {"Q4_0": loads},
    }


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"ours": {"value": 0.02}}, True),
        ({"ours": {"value": 0.021}}, False),
        ({"tensor_bytes": [900, 901]}, False),
        ({"bytes": [1000, 1002]}, False),
    ],
)
def test_no_worse_at_equal_size(changes: dict[str, Any], holds: bool) -> None:
    from claims.gguf import judge

    assert judge(files(**changes)).holds is holds


@pytest.mark.parametrize(
    ("engines", "holds", "said"),
    [
        ((1e-3, 2e-3, 1e-4), True, "in float32"),
        ((1e-3, 2e-3, 2e-3), False, "in float32"),
        ((1e-13, 1e-10, 1e-10), True, "Q4_0 1.0e-10 beside"),
    ],
)
def test_no_farther_than_llama_cpp(engines: tuple[float, ...], holds: bool, said: str) -> None:
    from claims.gguf import judge

    names = ("llama.cpp", "vivace", "vivace in float32")
    found = judge({**files(), "engines": {"Q4_0": dict(zip(names, engines, strict=True))}})
    assert found.holds is holds
    assert said in found.measured


def test_other_tokens_do_not_hold() -> None:
    from claims.gguf import judge

    result = files()
    result["loads"]["Q4_0"]["same_tokens"] = 2
    assert not judge(result).holds
    assert judge({"absent": "no network"}).absent == "llama.cpp (no network)"


@pytest.mark.parametrize(
    ("ours", "bits", "holds"), [(0.01, 4.125, True), (0.021, 4.125, False), (0.01, 4.2, False)]
)
def test_no_worse_than_others(ours: float, bits: float, holds: bool) -> None:
    from claims.quantizers import judge

    found = {
        "against": "gptq",
        "theirs": {"value": 0.02},
        "ours": {"value": ours},
        "bits": {"theirs": 4.125, "ours": bits},
    }
    assert judge({"methods": {"gptq": found}}).holds is holds


def test_others_files_must_load_alike() -> None:
    from claims.quantizers import judge_loads

    original, near, far = ({"distance": value} for value in (0.01, 0.019, 0.021))
    assert judge_loads({"loads": {"original": original, "awq": near}}).holds
    assert not judge_loads({"loads": {"original": original, "awq": far}}).holds
    assert not judge_loads({"loads": {"original": original, "awq": {"error": "no"}}}).holds
