"""Judging benchmarks/pruning.py."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome

SMALLER_BAR, RECOVERY_BAR, SPEED_BAR = 0.25, 0.9, 0.9
EXACT = 1e-3  # of a share of zeros: what rows of any length round to


def judge(result: dict[str, Any]) -> Outcome:
    parts = (_weights(result["weights"]), _shape(result["shape"]))
    measured = "; ".join(line for line, _ in parts)
    return Outcome(measured, all(holds for _, holds in parts), figures={"pruning": result})


def _weights(found: dict[str, Any]) -> tuple[str, bool]:
    """Half of the weights at zero: magnitude surely costs more than either of the others."""
    half, groups = found["0.5"], found["2:4"]
    costs = {name: each["delta_nll"] for name, each in half.items()}
    apart = all(costs["magnitude"]["low"] > costs[name]["high"] for name in ("sparsegpt", "wanda"))
    zeros = [share for each in half.values() for share in each["zeros"]]
    exact = all(abs(share - 0.5) < EXACT for share in zeros)
    exact &= all(each["groups_of_four_with_two"] for each in groups.values())
    lines = [f"{name} +{cost['value']:.3f} nats" for name, cost in costs.items()]
    two_of_four = [f"{name} +{each['delta_nll']['value']:.3f}" for name, each in groups.items()]
    said = f"at 50% {', '.join(lines)}; at 2:4, {'' if exact else 'not '}exact, "
    return said + ", ".join(two_of_four), apart and exact


def _shape(found: dict[str, Any]) -> tuple[str, bool]:
    speed = found["speed"]
    share = speed["time_saved"] / speed["work_saved"]
    holds = (
        found["smaller_by"] >= SMALLER_BAR
        and found["recovered"] >= RECOVERY_BAR
        and found["distilled"]["high"] < found["scratch"]["low"]
        and share >= SPEED_BAR
    )
    costs = {name: found[name]["value"] for name in ("pruned", "distilled", "scratch")}
    said = (
        f"{found['smaller_by']:.1%} smaller +{costs['pruned']:.3f} nats, distilled over "
        f"{found['tokens'] / 1e6:.2f} million tokens +{costs['distilled']:.3f} "
        f"({found['recovered']:.1%} recovered), from scratch +{costs['scratch']:.3f}; "
        f"{speed['time_saved']:.1%} of the time saved, {share:.2f} of the multiplications saved"
    )
    return said, holds
