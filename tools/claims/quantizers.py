"""Row 2 and a part of row 4: others' quantizers, and what they write."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome, missing

NEAR = 2.0  # times the distance on the original model


def judge(result: dict[str, Any]) -> Outcome:
    """Ours cost no more than theirs at the same bits, of each pair of methods."""
    if "absent" in result:
        return missing(f"llm-compressor and auto-round ({result['absent']})")
    parts, holds = [], True
    for method, found in result["methods"].items():
        theirs, ours = found["theirs"]["value"], found["ours"]["value"]
        bits = found["bits"]
        holds &= ours <= theirs and bits["ours"] <= bits["theirs"] * 1.001
        parts.append(f"{found['against']} KL {ours:.5f} beside {theirs:.5f} of {method}")
    return Outcome("; ".join(parts), holds, figures={"quantizers": result})


def judge_loads(result: dict[str, Any]) -> Outcome:
    """Others' checkpoints, as near to Transformers as the original model is."""
    if "absent" in result:
        return missing(f"llm-compressor and auto-round ({result['absent']})")
    loads = dict(result["loads"])
    base = loads.pop("original")["distance"]
    holds = all(found.get("distance", float("inf")) <= NEAR * base for found in loads.values())
    parts = [f"{name} {found.get('distance', float('nan')):.4f}" for name, found in loads.items()]
    measured = f"others' files, distance from Transformers: {', '.join(parts)}; original {base:.4f}"
    return Outcome(measured, holds, figures={"loads": result["loads"]})
