"""How the rows about speed judge a run of the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.tiny

TASK = "decode-16x64"


NOW = {"sources": "now", "date": "2026-01-02T03:04:05+00:00", "rounds": 3}


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
        "made": dict.fromkeys(rates_by_task, NOW),
    }


RESULT = {
    "isa": "native",
    "preset": "1.1b",
    "parameters": 1.1e9,
    "rounds": 3,
    "threads": 2,
    "machine": {"cpu": "a processor"},
    "limits": [{"task": TASK, "read": 3e10, "int8": 1e12, "bfloat16": 5e11}],
    "limits_absent": None,
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


@dataclass(frozen=True)
class Check:
    """Stands where a bar or a share does."""

    holds: bool


def test_a_row_needs_what_its_bar_names_and_tells_of_the_others() -> None:
    from claims.cpu_speed import outcome
    from claims.peers_run import LIMITS, PeersRun

    run, needed = PeersRun(RESULT), ("vivace int8", "vLLM W8A8", LIMITS)
    held = outcome(run, [Check(True)], needed)
    assert (held.holds, held.absent) == (True, None)
    assert "not needed and absent: ONNX Runtime int4 (it did not install)" in held.measured
    assert not outcome(run, [Check(True), Check(False)], needed).holds
    without = outcome(run, [Check(True)], (*needed, "ONNX Runtime int4", "llama.cpp Q4_0"))
    assert not without.holds
    assert without.absent == (
        "ONNX Runtime int4 (it did not install); llama.cpp Q4_0 (it was not compared)"
    )


def test_an_absent_task_is_an_absence() -> None:
    from claims.cpu_speed import outcome
    from claims.peers_run import LIMITS, PeersRun

    failed = {**contender("vllm", "int8"), "absent_tasks": {TASK: "too long"}}
    run = PeersRun({**RESULT, "contenders": {"vLLM W8A8": failed}, "limits_absent": "no SIMD"})
    found = outcome(run, [Check(True)], ("vLLM W8A8", LIMITS))
    assert (found.holds, found.absent) == (
        False,
        f"vLLM W8A8 ({TASK}: too long); {LIMITS} (no SIMD)",
    )
    assert run.limit("read", "prefill-512") is None


def test_what_is_absent_cannot_hold() -> None:
    from claims.row import Outcome

    with pytest.raises(ValueError, match="a GPU"):
        Outcome("measured", holds=True, absent="a GPU")


def started_run(ours: float, theirs: float, peak: float) -> Any:
    from claims.cpu_speed import INT4, Q4_0
    from claims.peers_run import PeersRun

    def one(peer: str, seconds: float) -> dict[str, Any]:
        starts = [{"first_token_seconds": seconds, "peak_bytes": peak}] * 3
        about = {"weight_bytes": 600e6}
        return {**contender(peer, "int4"), "starts": starts, "about": about}

    contenders = {INT4: one("vivace", ours), Q4_0: one("llama.cpp", theirs)}
    return PeersRun({**RESULT, "contenders": contenders})


@pytest.mark.parametrize(
    ("ours", "theirs", "peak", "holds"),
    [
        (0.4, 0.6, 800e6, True),
        (0.7, 0.6, 800e6, False),
        (1.1, 2.0, 800e6, False),
        (0.4, 0.6, 812e6, False),  # 1.1 x (600 MB and 33 tokens) + 150 MB is 810.8 MB
    ],
)
def test_a_start_is_quick_and_small(ours: float, theirs: float, peak: float, holds: bool) -> None:
    from claims.cpu_speed import started

    assert started(started_run(ours, theirs, peak)).holds is holds


def test_a_start_without_a_peer_says_so() -> None:
    from claims.cpu_speed import Q4_0, started

    run = started_run(0.4, 0.6, 8e8)
    run.result["contenders"][Q4_0]["absent"] = "no compiler"
    found = started(run)
    assert (found.holds, found.absent) == (False, f"{Q4_0} (no compiler)")


def test_no_more_bytes_than_q4_0_reads() -> None:
    """18 bytes for 32 weights without the embedding's, beside what a token of ours reads."""
    from claims.cpu_speed import INT4, Q4_0, _no_more_bytes
    from claims.peers_run import HEAD_WEIGHTS, PeersRun

    theirs = {**contender("llama.cpp", "int4"), "bytes_per_weight": 18 / 32}
    read = (1.1e9 - HEAD_WEIGHTS) * 18 / 32
    for more, holds in ((1.0, True), (1.01, False)):
        ours = {**contender("vivace", "int4"), "about": {"token_bytes": read * more}}
        run = PeersRun({**RESULT, "contenders": {INT4: ours, Q4_0: theirs}})
        assert _no_more_bytes(run).holds is holds


def test_a_long_context_may_take_what_its_bytes_explain() -> None:
    from claims.cpu_speed import INT4, LONG, SHORT, _explained
    from claims.peers_run import KV_BYTES_PER_TOKEN, PeersRun

    weights = 1000 * KV_BYTES_PER_TOKEN
    explained = 100 * (1000 + 64) / (1000 + 4032)
    for rate, holds in ((explained, True), (explained / 1.09, True), (explained / 1.11, False)):
        one = contender("vivace", "int4")
        one |= {"rates": {SHORT: [100.0], LONG: [rate]}, "about": {"token_bytes": weights}}
        run = PeersRun({**RESULT, "contenders": {INT4: one}})
        assert _explained(run, INT4).holds is holds


def served(**absent: str) -> dict[str, Any]:
    """vivace in int8 twice as fast as the best other one, which has the longer pauses."""

    def one(name: str, rate: float, pause: float) -> dict[str, Any]:
        figures = [{"output_throughput": rate, "p99_itl_ms": pause}] * 3
        cases = {"32+256 x16": figures, "256+64 x16": figures}
        return {"cases": cases, "absent": absent.get(name.split()[0])}

    rates = {
        "vivace int8": (200, 50),
        "vivace int4-g128": (150, 50),
        "vLLM W8A8": (100, 60),
        "Transformers bfloat16": (40, 20),
    }
    return {"servers": {name: one(name, *figures) for name, figures in rates.items()}}


def test_serving_is_judged_by_whoever_is_best() -> None:
    from claims.serving import judged

    found = judged(served())
    assert found.holds
    assert "tokens/s of vivace int8 200.0, 2.00 times vLLM W8A8" in found.measured
    slow = served()
    slow["servers"]["vLLM W8A8"] = slow["servers"]["vivace int8"]
    assert not judged(slow).holds
    pausing = served()
    for figures in pausing["servers"]["vivace int8"]["cases"].values():
        figures[:] = [{**figures[0], "p99_itl_ms": 61}] * 3
    assert not judged(pausing).holds


def test_serving_needs_vllm_and_another_peer() -> None:
    from claims.serving import judged

    found = judged(served(vLLM="it did not start"))
    assert (found.holds, found.absent) == (False, "vLLM W8A8 (it did not start)")
    found = judged(served(Transformers="it ended"))
    assert (found.holds, found.absent) == (False, "Transformers bfloat16 (it ended)")
    found = served(Transformers="it ended")
    found["servers"]["llama.cpp Q8_0"] = served()["servers"]["Transformers bfloat16"]
    assert judged(found).holds
    assert "Transformers bfloat16 is absent: it ended" in judged(found).measured


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

    text = section(RESULT, "now")
    assert "| vivace int8 | 200 |" in text
    assert "streaming read 30.0 GB/s" in text
    assert "ONNX Runtime int4 is absent: it did not install." in text
    assert "| ONNX Runtime int4 |" not in text
    assert "made on 2026-01-02." in text


def test_the_page_marks_what_was_made_on_other_sources() -> None:
    from performance_page import section

    text = section(RESULT, "later")
    assert "| vivace int8 | 200\\* |" in text
    assert "Figures with \\* were made on other sources" in text


def test_the_picture_marks_what_was_made_on_other_sources(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from performance_page import draw

    for now, marked in (("now", False), ("later", True)):
        draw(RESULT, tmp_path / "a.svg", now)
        assert ("<pattern" in (tmp_path / "a.svg").read_text()) == marked
