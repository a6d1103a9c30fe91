"""How the rows about speed judge a run of the comparison."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.tiny

TASK = "decode-16x64"


def contender(peer: str, kind: str, *rates: float, absent: str | None = None) -> dict[str, Any]:
    rates_by_task = {TASK: list(rates)} if rates else {}
    return {
        "peer": peer,
        "kind": kind,
        "absent": absent,
        "rates": rates_by_task,
        "absent_tasks": {},
        "starts": [],
        "about": {},
        "bytes_per_weight": 1.0,
    }


RESULT = {
    "isa": "native",
    "preset": "1.1b",
    "parameters": 1.1e9,
    "rounds": 3,
    "threads": 2,
    "machine": {"cpu": "a processor"},
    "limits": [{"task": TASK, "read": 3e10, "int8": 1e12, "bfloat16": 5e11}],
    "contenders": {
        "vivace int8": contender("vivace", "int8", 100, 300, 200),
        "vLLM W8A8": contender("vllm", "int8", 100, 90, 110),
        "OpenVINO int4": contender("openvino", "int4", 120, 130, 110),
        "ONNX Runtime int4": contender("onnxruntime", "int4", 900, absent="it did not install"),
    },
}


def test_the_best_peer_is_the_fastest_that_was_measured() -> None:
    from claims.peers_run import PeersRun

    run = PeersRun(RESULT)
    assert run.rate("vivace int8", TASK) == 200
    assert run.best_peer(TASK) == ("OpenVINO int4", 120)
    assert run.best_peer(TASK, "int8") == ("vLLM W8A8", 100)
    assert run.best_peer(TASK, "bfloat16") is None
    assert run.absent() == "ONNX Runtime int4 (it did not install)"


def test_a_bar_holds_only_if_both_were_measured() -> None:
    from claims.peers_run import Bar, Share

    assert Bar("a", 150.0, ("b", 100.0), 1.5).holds
    assert not Bar("a", 149.0, ("b", 100.0), 1.5).holds
    assert not Bar("a", None, ("b", 100.0), 1.5).holds
    assert not Bar("a", 150.0, None, 1.5).holds
    assert Share("a", 0.75, 0.75).holds
    assert not Share("a", None, 0.0).holds


def test_a_share_of_the_peak_counts_what_is_needed() -> None:
    """Beside the parameters of the shape: all linear weights for each token, the head for one."""
    from claims.peers_run import HEAD_WEIGHTS, LAYER_WEIGHTS, LAYERS

    from vivace.bench.random_model import PRESETS, tensor_shapes

    matrices = {name: shape for name, shape in tensor_shapes(PRESETS["1.1b"]) if len(shape) == 2}
    sizes = {name: shape[0] * shape[1] for name, shape in matrices.items()}
    assert sizes.pop("lm_head.weight") == HEAD_WEIGHTS
    sizes.pop("model.embed_tokens.weight")
    assert sum(sizes.values()) == LAYERS * LAYER_WEIGHTS


def test_the_page_shows_medians_limits_and_who_is_absent() -> None:
    from performance_page import section

    text = section(RESULT)
    assert "| vivace int8 | 200 |" in text
    assert "streaming read 30.0 GB/s" in text
    assert "ONNX Runtime int4 is absent: it did not install." in text
    assert "| ONNX Runtime int4 |" not in text
