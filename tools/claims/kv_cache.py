"""Rows 5 to 7: prefix sharing, KV memory, eviction."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome, all_of, missing

RATE_BAR, CACHED_BAR, RESTART_BAR = 5.0, 8.0, 3.0
WASTE_BAR = 0.04


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


def memory(result: dict[str, Any]) -> Outcome:
    return all_of(waste(result), missing("packed KV pages (see benchmarks/kv_quality.py)"))


def waste(result: dict[str, Any]) -> Outcome:
    (case,) = [one for one in result["cases"] if one["scale"] == 1.0]
    measured = (
        f"pages waste {case['pages']:.1%} at a mean length of {case['mean_length']:.0f} tokens "
        f"({case['longest_reserved']:.0%} where the longest length is reserved)"
    )
    return Outcome(measured, case["pages"] < WASTE_BAR, figures={"kv_memory": result})


def eviction() -> Outcome:
    return missing("eviction for long contexts (not built yet)")
