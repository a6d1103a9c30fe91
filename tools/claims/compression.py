"""How the rows about compression judge what their benchmarks printed."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome

RECOVERY_BAR = 0.5
SMOOTH_BAR, COLLAPSE = 1.005, 1.5  # of perplexity
RANDOM_MIXES, PREDICTION_BAR = 100, 0.1
JUDGED = ("gptq", "awq")


def ordering(result: dict[str, Any]) -> Outcome:
    """Methods that read text gain on rounding to nearest, in every interval, and recover enough of
    what it costs with the best of them."""
    parts, holds = [], True
    for scheme, methods in result["schemes"].items():
        bits = {round(found["bits"], 6) for found in methods.values()}
        best = max(methods, key=lambda name: methods[name]["recovery"])
        beyond = all(methods[name]["gain"]["low"] > 0 for name in JUDGED)
        costs = all(methods[name]["delta_nll"]["low"] > 0 for name in JUDGED)
        enough = methods[best]["recovery"] >= RECOVERY_BAR
        holds &= beyond and costs and enough and len(bits) == 1
        shares = ", ".join(f"{name} {methods[name]['recovery']:.2f}" for name in JUDGED)
        parts.append(
            f"{scheme} ({bits.pop():.3f} bits): rtn +{methods['rtn']['delta_nll']['value']:.4f} "
            f"nats, of which {shares} are recovered, best {best} {methods[best]['recovery']:.2f}"
        )
    outliers = result["outliers"]
    largest = max(outliers, key=int)
    holds &= outliers[largest]["rtn"]["value"] > COLLAPSE
    holds &= all(found["smoothquant"]["value"] <= SMOOTH_BAR for found in outliers.values())
    for factor, found in outliers.items():
        rtn, smooth = found["rtn"]["value"], found["smoothquant"]["value"]
        parts.append(
            f"int8 with outliers of {factor}: rtn {rtn:.3f} times the perplexity, smoothquant "
            f"{smooth:.4f}"
        )
    return Outcome("; ".join(parts), holds, figures={"quantization": result})


def mixed(result: dict[str, Any]) -> Outcome:
    """At equal bytes better than one scheme for all and than every random mix, and as predicted."""
    cost, uniform, others = result["mixed"], result["uniform"], result["random"]
    beaten = sum(cost < other for other in others)
    error = abs(result["predicted"] / result["measured"] - 1)
    measured = (
        f"at {result['bits']:.3f} bits KL {cost:.5f}, uniform {uniform:.5f}; better than {beaten} "
        f"of {len(others)} random mixes; predicted within {error:.0%}"
    )
    holds = cost < uniform and beaten == len(others) >= RANDOM_MIXES and error <= PREDICTION_BAR
    return Outcome(measured, holds, figures={"mixed": result})
