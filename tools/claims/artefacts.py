"""Row 4: our artefacts in other engines."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome, missing

NEAR = 2.0  # times the distance on the original model
ROUNDED = 0.75  # of what rounding changed, where activations are rounded too: each in its own way
WITHOUT_KERNEL = {"vllm": {"int3-g128"}}  # what an engine has no way to multiply by


def judge(result: dict[str, Any]) -> Outcome:
    """Every weight the same, and logits as near as those of the original model, or much nearer to
    each other than to that model's."""
    if "absent" in result:
        return missing(f"vLLM ({result['absent']})")
    models = result["models"]
    original, parts, holds = models["original"], [], True
    for scheme, engines in models.items():
        for engine, found in engines.items():
            if scheme == "original" or scheme in WITHOUT_KERNEL.get(engine, ()):
                continue
            bar = max(NEAR * original[engine]["distance"], ROUNDED * found.get("changed", 0))
            near = found.get("distance", float("inf")) <= bar
            holds &= near and found.get("same_weights", True)
            parts.append(f"{scheme} in {engine} {found.get('distance', float('nan')):.4f}")
    base = ", ".join(f"{engine} {found['distance']:.4f}" for engine, found in original.items())
    measured = f"distance from vivace: {', '.join(parts)}; of the original model: {base}"
    return Outcome(measured, holds, figures={"artefacts": result})
