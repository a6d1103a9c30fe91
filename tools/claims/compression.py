"""How the rows about compression judge what their benchmarks printed."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome

RECOVERY_BAR = 0.5
SMOOTH_BAR, COLLAPSE = 1.005, 1.5  # of perplexity
RANDOM_MIXES, PREDICTION_BAR = 100, 0.1
JUDGED = ("gptq", "awq")
NESTED_BAR = 0.01  # nats
SMALLER_BAR, FASTER_BAR = 4, 2
MINUTES_BAR, BYTES_BAR = 60, 1.5e9


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


def nested(result: dict[str, Any]) -> Outcome:
    """The view in 4 bits costs what a model of 4 bits costs; 8 bits beside it add no copy."""
    alone, view = result["int4-g128"], result["nested-g128 in 4 bits"]
    whole, eight = result["nested-g128"], result["int8"]
    costs = {
        name: found["delta_nll"]["value"]
        for name, found in (("alone", alone), ("view", view), ("whole", whole), ("int8", eight))
    }
    share = whole["bits_per_quantized_weight"] / (2 * alone["bits_per_quantized_weight"])
    measured = (
        f"the 4-bit view costs {costs['view']:.4f} nats, a model of 4 bits alone "
        f"{costs['alone']:.4f}, byte for byte the same: {result['same_bytes']}; in 8 bits "
        f"{costs['whole']:.4f} (int8 alone {costs['int8']:.4f}) at "
        f"{whole['bits_per_quantized_weight']:.2f} bits a weight, {share:.2f} times two planes"
    )
    near = abs(costs["view"] - costs["alone"]) <= NESTED_BAR
    finer = abs(costs["whole"]) < abs(costs["view"])
    return Outcome(measured, near and finer and share <= 1.02, figures={"nested": result})


def seed_claims(result: dict[str, Any]) -> Outcome:
    """Some precision is as much smaller, some as much faster; what each costs is said."""
    parts = []
    for name, found in result["schemes"].items():
        if "kl_mean" in found:
            parts.append(
                f"{name} {found['smaller_than_float32']:.2f} times smaller than float32 "
                f"({found['smaller_than_bfloat16']:.2f} than bfloat16), {found['faster']:.2f} "
                f"times faster, KL {found['kl_mean']:.4f}, "
                f"{found['top1_agreement']:.1%} of top tokens the same"
            )
    rounded = [found for found in result["schemes"].values() if "kl_mean" in found]
    smaller = max(found["smaller_than_float32"] for found in rounded) >= SMALLER_BAR
    faster = max(found["faster"] for found in rounded) >= FASTER_BAR
    return Outcome("; ".join(parts), smaller and faster, figures={"claims": result})


def large(result: dict[str, Any]) -> Outcome:
    """In time, in memory, and not from the start after a kill."""
    minutes, peak = sum(result["seconds"]) / 60, result["peak_bytes"] / 2**30
    measured = (
        f"{result['samples']} runs of {result['sample_len']} tokens in {minutes:.1f} minutes, "
        f"killed once and begun again ({'went on' if result['resumed'] else 'from the start'}); "
        f"{peak:.2f} GiB of its own; told {result['progress']!r} on the way"
    )
    quick = minutes <= MINUTES_BAR and result["peak_bytes"] <= BYTES_BAR
    holds = quick and result["resumed"] and "left" in result["progress"]
    return Outcome(measured, holds, figures={"large": result})
