"""A part of the comparison with the peers, and who was best in it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from claims.benchmark import run_benchmark

LIMITS = "the machine's limits"
# The 1.1b model, with a KV cache in bfloat16.
LAYERS, HIDDEN, INNER, VOCABULARY = 22, 2048, 5632, 32000
KEY_VALUE = 256
LAYER_WEIGHTS = 2 * HIDDEN * HIDDEN + 2 * KEY_VALUE * HIDDEN + 3 * HIDDEN * INNER
HEAD_WEIGHTS = HIDDEN * VOCABULARY
KV_BYTES_PER_TOKEN = LAYERS * 2 * KEY_VALUE * 2


@dataclass(frozen=True)
class PeersRun:
    """What the comparison printed.

    Attributes:
        result: its JSON object.
    """

    result: dict[str, Any]

    def rate(self, name: str, task: str) -> float | None:
        """Tokens per second, the median of the rounds; None where it was not measured."""
        one = self.result["contenders"].get(name, {})
        rates = one.get("rates", {}).get(task)
        return median(rates) if rates and one["absent"] is None else None

    def best_peer(self, task: str, kind: str | None = None) -> tuple[str, float] | None:
        """The fastest of the others, of one kind of format or of any."""
        rates = {
            name: rate
            for name, one in self.result["contenders"].items()
            if one["peer"] != "vivace" and kind in (None, one["kind"])
            if (rate := self.rate(name, task)) is not None
        }
        if not rates:
            return None
        name = max(rates, key=lambda name: rates[name])
        return name, rates[name]

    def limit(self, name: str, task: str) -> float | None:
        """The machine's "read", "int8" or "bfloat16", the median of the task's rounds; None where
        it cannot be measured."""
        found = [one[name] for one in self.result["limits"] if one["task"] == task]
        return median(found) if found else None

    def about(self, name: str, key: str) -> Any:
        return self.result["contenders"].get(name, {}).get("about", {}).get(key)

    def started(self, name: str, key: str) -> float | None:
        """The median over its starts."""
        one = self.result["contenders"].get(name, {})
        starts = one.get("starts")
        return median(start[key] for start in starts) if starts and one["absent"] is None else None

    def absences(self) -> dict[str, str]:
        """By contender that could not be measured, or not in every task, why; LIMITS too."""
        reasons = {name: _reason(one) for name, one in self.result["contenders"].items()}
        reasons[LIMITS] = self.result["limits_absent"]
        return {name: reason for name, reason in reasons.items() if reason is not None}

    def absent(self, needed: Collection[str]) -> str | None:
        """Which of these could not be measured."""
        reasons = self.absences()
        compared = {LIMITS, *self.result["contenders"]}
        reasons |= {name: "it was not compared" for name in needed if name not in compared}
        return "; ".join(f"{name} ({reasons[name]})" for name in needed if name in reasons) or None

    def also_absent(self, needed: Collection[str]) -> list[str]:
        """Lines on those that no bar names."""
        return [
            f"not needed and absent: {name} ({reason})"
            for name, reason in self.absences().items()
            if name not in needed
        ]


def _reason(one: dict[str, Any]) -> str | None:
    if one["absent"] is not None:
        return str(one["absent"])
    tasks = [f"{task}: {reason}" for task, reason in one["absent_tasks"].items()]
    return ", ".join(tasks) or None


def run_peers(isa: str, rows: Iterable[str], contenders: Sequence[str] = ()) -> PeersRun:
    arguments = ["--isa", isa, "--rows", *rows]
    if contenders:
        arguments += ["--contenders", *contenders]
    return PeersRun(run_benchmark("peers_cpu.py", *arguments))


@dataclass(frozen=True)
class Bar:
    """At least `least` times a number that may be absent, in words."""

    label: str
    ours: float | None
    theirs: tuple[str, float] | None
    least: float

    @property
    def holds(self) -> bool:
        return self.ours is not None and self.theirs is not None and self.ratio >= self.least

    @property
    def ratio(self) -> float:
        assert self.ours is not None
        assert self.theirs is not None
        return self.ours / self.theirs[1]

    def __str__(self) -> str:
        if self.ours is None:
            return f"{self.label} was not measured"
        if self.theirs is None:
            return f"{self.label} {self.ours:.1f}, no peer was measured"
        name, rate = self.theirs
        return f"{self.label} {self.ours:.1f}, {self.ratio:.2f} times {name} ({rate:.1f})"


@dataclass(frozen=True)
class Share:
    """At least `least` of a limit of the machine."""

    label: str
    share: float | None
    least: float

    @property
    def holds(self) -> bool:
        return self.share is not None and self.share >= self.least

    def __str__(self) -> str:
        if self.share is None:
            return f"{self.label} was not measured"
        return f"{self.label} {self.share:.0%}"
