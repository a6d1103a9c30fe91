"""Row 5: faster than Transformers, and quick to start."""

from __future__ import annotations

from importlib.util import find_spec

from claims.benchmark import run_benchmark
from claims.row import Outcome, all_of, missing

DECODE_BAR, PREFILL_BAR = 2.5, 0.9
FIRST_TOKEN_BAR, HELP_BAR = 1.0, 0.3


def prove() -> Outcome:
    return all_of(_transformers(), _startup())


def _transformers() -> Outcome:
    if any(find_spec(name) is None for name in ("torch", "transformers")):
        return missing("PyTorch and Transformers")
    figures = run_benchmark("transformers_cpu.py")
    lines, holds = [], True
    for name, model in figures["models"].items():
        decode, prefill = model["decode"]["ratio"], model["prefill"]["ratio"]
        share = model["limit"]["decode_share"]["vivace"]
        lines.append(
            f"{name}: decode {decode:.2f} times ({share:.0%} of the machine's streaming read), "
            f"prefill {prefill:.2f} times"
        )
        holds = holds and decode >= DECODE_BAR and prefill >= PREFILL_BAR
    return Outcome("; ".join(lines), holds, figures={"transformers_cpu": figures})


def _startup() -> Outcome:
    figures = run_benchmark("startup.py")
    first, help_text = figures["first_token_seconds"], figures["help_seconds"]
    return Outcome(
        f"first token after {first:.2f} s, help after {help_text:.2f} s",
        first < FIRST_TOKEN_BAR and help_text < HELP_BAR,
        figures={"startup": figures},
    )
