"""Row 3: GGUF files beside llama.cpp's."""

from __future__ import annotations

from typing import Any

from claims.row import Outcome, missing

EXACT = 1e-9  # nats: float32 in another order of sums
SAME_SIZE = 0.001


def judge(result: dict[str, Any]) -> Outcome:
    """Ours cost no more at equal size, vivace is no farther from a file's own logits than llama.cpp
    is, and our files are read there in the same tokens."""
    if "absent" in result:
        return missing(f"llama.cpp ({result['absent']})")
    parts = [
        *(_cost(kind, found) for kind, found in result["types"].items()),
        _fidelity(result["engines"]),
        _loads(result["loads"]),
    ]
    measured = "; ".join(text for text, _ in parts)
    return Outcome(measured, all(holds for _, holds in parts), figures={"gguf": result})


def _cost(kind: str, found: dict[str, Any]) -> tuple[str, bool]:
    texts, holds = [], True
    for how, each in found.items():
        theirs, ours = each["theirs"]["value"], each["ours"]["value"]
        sizes, tensors = each["bytes"], each["tensor_bytes"]
        alike = tensors[0] == tensors[1] and abs(sizes[1] / sizes[0] - 1) <= SAME_SIZE
        holds &= alike and ours <= theirs
        texts.append(f"{how} KL {ours:.3g} beside {theirs:.3g}")
    return f"{kind}: {', '.join(texts)}", holds


def _fidelity(engines: dict[str, dict[str, float]]) -> tuple[str, bool]:
    """As files load without a flag; where that loses, in float32, which the row then says."""
    texts, holds = [], True
    for kind, found in engines.items():
        theirs, ours = found["llama.cpp"], found["vivace"]
        name = ""
        if ours > max(theirs, EXACT):
            ours, name = found["vivace in float32"], " in float32"
        holds &= ours <= max(theirs, EXACT)
        texts.append(f"{kind} {ours:.1e}{name} beside {theirs:.1e}")
    return f"KL from a file's own logits: {', '.join(texts)}", holds


def _loads(loads: dict[str, dict[str, Any]]) -> tuple[str, bool]:
    same = all(found["same_tokens"] == found["texts"] > 0 for found in loads.values())
    top1 = min(found["same_top1"] for found in loads.values())
    words = "in the same tokens" if same else "in OTHER tokens"
    return f"ours load in llama.cpp, {words}, the same first choice in {top1:.1%}", same
