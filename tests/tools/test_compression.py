"""How the rows about compression judge what their benchmarks printed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.tiny


def figure(value: float, spread: float = 0.001) -> dict[str, float]:
    return {"value": value, "low": value - spread, "high": value + spread}


def methods(gptq: float = 0.4, awq: float = 0.6, bits: float = 4.125) -> dict[str, Any]:
    def found(recovery: float) -> dict[str, Any]:
        cost = 0.03 * (1 - recovery)
        return {
            "delta_nll": figure(cost),
            "gain": figure(0.03 - cost),
            "recovery": recovery,
            "bits": bits,
        }

    return {"rtn": found(0), "gptq": found(gptq), "awq": found(awq)}


def result(rtn: float = 3.0, smoothquant: float = 1.002, **changes: float) -> dict[str, Any]:
    outliers = {"256": {"rtn": figure(rtn), "smoothquant": figure(smoothquant)}}
    return {"schemes": {"int4-g128": methods(**changes)}, "outliers": outliers}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"gptq": 0.01}, False),  # no gain that its interval is sure of
        ({"awq": 0.49}, False),  # the best recovers less than half
        ({"awq": 0.99}, False),  # as good as floats: too good to be true
        ({"rtn": 1.4}, False),
        ({"smoothquant": 1.006}, False),
    ],
)
def test_methods_must_stand_in_order(changes: dict[str, float], holds: bool) -> None:
    from claims.compression import ordering

    assert ordering(result(**changes)).holds is holds


def engines(distance: float = 0.01, same: bool = True) -> dict[str, Any]:
    theirs = {"distance": distance, "changed": 0.02, "same_weights": same}
    return {"transformers": theirs, "vllm": {"distance": distance, "changed": 0.02}}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [({}, True), ({"distance": 0.03}, False), ({"same": False}, False)],
)
def test_others_must_see_the_same_model(changes: dict[str, Any], holds: bool) -> None:
    from claims.artefacts import judge

    models = {"original": engines(), "int4-g128-a16": engines(**changes)}
    assert judge({"models": models}).holds is holds


def test_an_engine_that_cannot_load_does_not_hold() -> None:
    from claims.artefacts import judge

    models = {"original": engines(), "int8": {**engines(), "vllm": {"error": "no"}}}
    assert not judge({"models": models}).holds
    assert judge({"absent": "no network"}).absent == "vLLM (no network)"


def test_there_is_a_row_for_each_line_of_the_issue() -> None:
    from claims.compression_rows import ROWS

    assert list(ROWS) == list(range(1, 10))
    assert ROWS[7].prove().absent == "ternary and binary (not built yet)"


def test_outliers_change_no_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.numpy import load_file

    from tests.optimize.models import write_model

    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    from outliers import inject

    folder = write_model(tmp_path / "model")
    before = load_file(folder / "model.safetensors")
    after = load_file(inject(folder, tmp_path / "out", 32) / "model.safetensors")
    gain, query = "model.layers.0.input_layernorm.weight", "model.layers.0.self_attn.q_proj.weight"
    larger = after[gain] / before[gain]
    assert sorted(set(larger.tolist())) == [1, 32]
    np.testing.assert_array_equal(after[query] * larger, before[query])


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"mixed": 0.021}, False),
        ({"random": [0.03] * 99 + [0.009]}, False),
        ({"random": [0.03] * 99}, False),
        ({"predicted": 0.0112}, False),
    ],
)
def test_a_mix_must_beat_all_others(changes: dict[str, Any], holds: bool) -> None:
    from claims.compression import mixed

    result = {"bits": 4.1, "mixed": 0.01, "uniform": 0.02, "random": [0.03] * 100}
    assert mixed({**result, "predicted": 0.0101, "measured": 0.01, **changes}).holds is holds


def pruned(value: float, zeros: float = 0.5, groups: bool = True) -> dict[str, Any]:
    found = {"zeros": [zeros], "groups_of_four_with_two": groups}
    return {"delta_nll": figure(value), **found}


def sparse(zeros: float = 0.5, groups: bool = True, magnitude: float = 0.4) -> dict[str, Any]:
    half = {
        "magnitude": pruned(magnitude),
        "wanda": pruned(0.5, zeros),
        "wanda-matrix": pruned(0.2),
        "sparsegpt": pruned(0.1),
    }
    return {"half": half, "outliers": half, "2:4": {"wanda": pruned(0.3, groups=groups)}}


def smaller(**changes: float) -> dict[str, Any]:
    given = {"layers_smaller_by": 0.25, "recovered": 0.92, "scratch": 0.9, "time_saved": 0.2}
    given |= {"smaller_by": 0.16, **changes}
    speed = {"time_saved": given.pop("time_saved"), "work_saved": 0.21}
    costs = {"pruned": figure(0.5), "distilled": figure(0.04), "scratch": figure(given["scratch"])}
    return {**given, **costs, "tokens": 10**6, "speed": speed}


@pytest.mark.parametrize(
    ("weights", "shape", "holds"),
    [
        ({}, {}, True),
        ({"magnitude": 0.2005}, {}, False),  # within the other's interval
        ({"magnitude": 0.1}, {}, False),
        ({"zeros": 0.48}, {}, False),
        ({"groups": False}, {}, False),
        ({}, {"layers_smaller_by": 0.24}, False),
        ({}, {"recovered": 0.89}, False),
        ({}, {"scratch": 0.041}, False),
        ({}, {"time_saved": 0.18}, False),
    ],
)
def test_pruning_must_pay(weights: dict[str, Any], shape: dict[str, float], holds: bool) -> None:
    from claims.pruning import judge

    assert judge({"weights": sparse(**weights), "shape": smaller(**shape)}).holds is holds
