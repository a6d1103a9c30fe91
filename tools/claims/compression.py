"""How the rows about compression judge what their benchmarks printed."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome

RECOVERY_BAR = 0.5
SMOOTH_BAR, COLLAPSE = 1.005, 1.05  # of perplexity
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
    rtn, smooth = outliers["rtn"]["value"], outliers["smoothquant"]["value"]
    holds &= rtn > COLLAPSE and smooth <= SMOOTH_BAR
    parts.append(
        f"int8 with outliers: rtn {rtn:.3f} times the perplexity, smoothquant {smooth:.4f}"
    )
    return Outcome("; ".join(parts), holds, figures={"quantization": result})
