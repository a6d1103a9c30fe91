"""Row 3: structured output is what was asked for, ends, is refused in time and costs little."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome, all_of

ASKED = {"schemas": 1_000, "patterns": 100, "grammars": 50}
ENDED_BAR = 0.95
REFUSED_SECONDS = 12.0  # compiling may take 10
MODEL = "0.35b"
RATE_BAR = 0.9


def structured(result: dict[str, Any]) -> Outcome:
    parts = [
        validity(result["validity"]),
        refusals(result["refusals"]),
        throughput(result["throughput"]),
    ]
    whole = all_of(*parts)
    return Outcome(whole.measured, whole.holds, whole.absent, {"structured": result})


def validity(forms: dict[str, Any]) -> Outcome:
    """A form that is refused has not ended either."""
    ended = {name: one["reasons"].get("stop", 0) / one["asked"] for name, one in forms.items()}
    measured = ", ".join(
        f"{one['asked']} {name}: {ended[name]:.1%} ended by stop, {one['wrong']} of them wrong"
        for name, one in forms.items()
    )
    holds = all(
        forms[name]["asked"] >= asked and not forms[name]["wrong"] and ended[name] >= ENDED_BAR
        for name, asked in ASKED.items()
    )
    return Outcome(measured, holds)


def refusals(explosions: dict[str, Any]) -> Outcome:
    slowest = max(one["seconds"] for one in explosions.values())
    refused = sum(one["refused"] for one in explosions.values())
    measured = (
        f"{refused} of {len(explosions)} forms that explode refused, after at most {slowest:.2f} s"
    )
    holds = slowest <= REFUSED_SECONDS and all(
        one["refused"] and one["beside"] for one in explosions.values()
    )
    return Outcome(measured, holds)


def throughput(models: dict[str, Any]) -> Outcome:
    """On a model so small that Python is much of its time it is told, not judged."""
    measured = ", ".join(
        f"{by_batch[batch]['share']:.3f} of the throughput at batch {batch} on {name}"
        for name, by_batch in models.items()
        for batch in by_batch
    )
    judged = models.get(MODEL, {})
    holds = bool(judged) and all(one["share"] >= RATE_BAR for one in judged.values())
    return Outcome(measured, holds)
