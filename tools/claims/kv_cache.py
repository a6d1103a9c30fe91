"""Rows 5 to 7: prefix sharing, KV memory, eviction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from claims.benchmark import judged, run_benchmark
from claims.row import Outcome, all_of, attempt
from vivace.hardware.isa import isa_level

RATE_BAR, CACHED_BAR, RESTART_BAR = 5.0, 8.0, 3.0
WASTE_BAR = 0.04
SMALLER_BARS = {"int8": 1.85, "int4": 3.2}
KL_BAR = 0.002  # nats per token, of int8
SEQUENCES_BARS = {"int8": 1.8, "int4": 2.8}
DRIFT_BAR = 1.05
BREAKS_BAR = 1.05
WHOLE_BAR, SNAP_BAR, PASSED_BAR = 0.95, 0.9, 0.1


def conversations() -> Outcome:
    """With tiles a prompt is so cheap that decoding is all that is left, shared or not. The bar is
    for machines without; what it comes to with them is told."""
    if isa_level(Path("/proc/cpuinfo").read_text()) != "amx":
        return chat(run_benchmark("chat.py", minutes=20))
    plain = chat(run_benchmark("chat.py", minutes=20, isa="avx512"))
    tiles = chat(run_benchmark("chat.py", minutes=20))
    return Outcome(
        f"without tiles {plain.measured}; with tiles {tiles.measured}",
        plain.holds,
        figures={**plain.figures, "chat_with_tiles": tiles.figures["chat"]},
    )


def chat(result: dict[str, Any]) -> Outcome:
    rates, ttfts = result["tokens_per_second"], result["median_ttfts"]
    rate, most = (rates[name] / rates["apart"] for name in ("shared", "decodes alone"))
    cached, restarted = (ttfts["apart"] / ttfts[name] for name in ("shared", "restarted"))
    measured = (
        f"{rates['shared']:.1f} tokens/s, {rate:.2f} times that without sharing ({most:.2f} if no "
        f"prompt took any time); first token of a turn cold after {1000 * ttfts['apart']:.0f} ms, "
        f"cached {cached:.1f} times sooner, from disk after a restart {restarted:.1f} times sooner"
    )
    holds = rate >= RATE_BAR and cached >= CACHED_BAR and restarted >= RESTART_BAR
    return Outcome(measured, holds, figures={"chat": result})


def memory() -> Outcome:
    judges = {"kv_memory.py": waste, "kv_quality.py": quality, "kv_sequences.py": sequences}
    return all_of(*(attempt(judged(script, 10, judge)) for script, judge in judges.items()))


def waste(result: dict[str, Any]) -> Outcome:
    (case,) = [one for one in result["cases"] if one["scale"] == 1.0]
    measured = (
        f"pages waste {case['pages']:.1%} at a mean length of {case['mean_length']:.0f} tokens "
        f"({case['longest_reserved']:.0%} where the longest length is reserved)"
    )
    return Outcome(measured, case["pages"] < WASTE_BAR, figures={"kv_memory": result})


def quality(result: dict[str, Any]) -> Outcome:
    formats = result["formats"]
    measured = ", ".join(
        f"{name} {one['smaller']:.2f} times smaller at {result['context']} tokens (KL "
        f"{one['kl']:.5f} nats, {one['agreement']:.1%} of top tokens the same)"
        for name, one in formats.items()
    )
    small = all(formats[name]["smaller"] >= bar for name, bar in SMALLER_BARS.items())
    holds = small and formats["int8"]["kl"] < KL_BAR
    return Outcome(measured, holds, figures={"kv_quality": result})


def sequences(result: dict[str, Any]) -> Outcome:
    held = result["sequences"]
    times = {name: held[name] / held["auto"] for name in SEQUENCES_BARS}
    measured = f"in {result['bytes'] >> 20} MiB {held['auto']} sequences in bfloat16, " + ", ".join(
        f"{times[name]:.2f} times as many in {name}" for name in times
    )
    holds = all(times[name] >= bar for name, bar in SEQUENCES_BARS.items())
    return Outcome(measured, holds, figures={"kv_sequences": result})


def eviction() -> Outcome:
    judges = {"eviction.py": streams, "recall.py": recall}
    return all_of(*(attempt(judged(script, 10, judge)) for script, judge in judges.items()))


def streams(result: dict[str, Any]) -> Outcome:
    """Flat is: as far above a fresh context in the last quarter of the stream as in the first,
    the first window left out. That it breaks without sinks is up to the model."""
    fresh, kept = np.log(result["fresh"]), result["kept"]
    sinks, none = (np.log(kept[name]["perplexity"]) - fresh for name in ("4", "0"))
    quarter = len(fresh) // 4
    drift = float(np.exp(sinks[-quarter:].mean() - sinks[1 : 1 + quarter].mean()))
    above = float(np.exp(sinks[1:].mean()))
    without = float(np.exp((none - sinks)[1:].mean()))
    verdict = "breaks" if without >= BREAKS_BAR else "does not break: this model has no sinks"
    measured = (
        f"perplexity with 4 sinks {above:.3f} times that of a fresh context, in the last quarter "
        f"of {len(fresh)} windows {drift:.3f} times the first; without sinks {without:.3f} times "
        f"that with them ({verdict})"
    )
    return Outcome(measured, drift <= DRIFT_BAR, figures={"eviction": result})


def recall(result: dict[str, Any]) -> Outcome:
    """What a window has passed must be gone, or the task would show nothing."""
    whole, kept = result["whole"]["right"], result["kept"]
    measured = f"recall of {result['tokens']} tokens {whole:.1%}; " + ", ".join(
        f"of {count} kept {ways['snap']['right']:.1%} ({ways['sinks']['right']:.1%} of sinks and "
        f"a window, {ways['snap_unseen']['right']:.1%} if chosen before the question)"
        for count, ways in kept.items()
    )
    holds = whole >= WHOLE_BAR and all(
        ways["snap"]["right"] >= SNAP_BAR * whole and ways["sinks"]["by_depth"][0] <= PASSED_BAR
        for ways in kept.values()
    )
    return Outcome(measured, holds, figures={"recall": result})
