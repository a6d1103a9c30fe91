"""Judging benchmarks/pruning.py."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome

SMALLER_BAR, RECOVERY_BAR, SPEED_BAR = 0.25, 0.9, 0.9
BETTER = ("sparsegpt", "wanda-matrix")
EXACT = 1e-3  # of a share of zeros: what rows of any length round to


def judge(result: dict[str, Any]) -> Outcome:
    parts = (_weights(result["weights"]), _shape(result["shape"]))
    measured = "; ".join(line for line, _ in parts)
    return Outcome(measured, all(holds for _, holds in parts), figures={"pruning": result})


def _weights(found: dict[str, Any]) -> tuple[str, bool]:
    """Half of the weights at zero: magnitude surely costs more than SparseGPT, and than Wanda's
    scores where both are compared over the matrix (the published comparison within rows is printed
    beside it)."""
    half, groups = found["half"], found["2:4"]
    plain, outliers = (_costs(each) for each in (half, found["outliers"]))
    apart = all(plain["magnitude"]["low"] > plain[name]["high"] for name in BETTER)
    zeros = [share for each in half.values() for share in each["zeros"]]
    exact = all(abs(share - 0.5) < EXACT for share in zeros)
    exact &= all(each["groups_of_four_with_two"] for each in groups.values())
    said = (
        f"nats at 50%: {_listed(plain)}; with outliers {_listed(outliers)}; "
        f"2:4, {'' if exact else 'not '}exact: {_listed(_costs(groups))}"
    )
    return said, apart and exact


def _costs(methods: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {name: found["delta_nll"] for name, found in methods.items()}


def _listed(costs: dict[str, dict[str, float]]) -> str:
    return ", ".join(f"{name} +{cost['value']:.3f}" for name, cost in costs.items())


def _shape(found: dict[str, Any]) -> tuple[str, bool]:
    speed = found["speed"]
    share = speed["time_saved"] / speed["work_saved"]
    holds = (
        found["layers_smaller_by"] >= SMALLER_BAR
        and found["recovered"] >= RECOVERY_BAR
        and found["distilled"]["high"] < found["scratch"]["low"]
        and share >= SPEED_BAR
    )
    costs = {name: found[name]["value"] for name in ("pruned", "distilled", "scratch")}
    said = (
        f"layers {found['layers_smaller_by']:.1%} smaller ({found['smaller_by']:.1%} of all "
        f"parameters) +{costs['pruned']:.3f} nats, distilled over "
        f"{found['tokens'] / 1e6:.2f} million tokens +{costs['distilled']:.3f} "
        f"({found['recovered']:.1%} recovered), from scratch +{costs['scratch']:.3f}; "
        f"{speed['time_saved']:.1%} of the time saved, {share:.2f} of the multiplications saved"
    )
    return said, holds
