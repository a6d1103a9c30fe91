"""A row of the proof: a claim, its bar, what was measured and whether it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """Attributes:
    measured: one line for the printed table.
    holds: False too where something needed is absent.
    absent: what was needed and not there.
    figures: everything behind the line.
    """

    measured: str
    holds: bool
    absent: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.holds and self.absent is not None:
            raise ValueError(f"A row that needs what is absent does not hold: {self.absent}")


@dataclass(frozen=True)
class Row:
    """Attributes:
    takes: how long it runs on two cores, in words.
    prove: measures now.
    """

    claim: str
    bar: str
    takes: str
    prove: Callable[..., Outcome]


def missing(what: str) -> Outcome:
    """The outcome where something needed is absent: it does not hold."""
    return Outcome(f"not measured: {what}", holds=False, absent=what)


def attempt(prove: Callable[..., Outcome], *arguments: Any) -> Outcome:
    """A part that fails must not cost the other parts and rows."""
    try:
        return prove(*arguments)
    except Exception as error:
        return Outcome(f"could not run: {type(error).__name__}: {error}", holds=False)


def all_of(*outcomes: Outcome) -> Outcome:
    """One outcome that holds if every one does."""
    figures: dict[str, Any] = {}
    for outcome in outcomes:
        figures |= outcome.figures
    return Outcome(
        "; ".join(outcome.measured for outcome in outcomes),
        all(outcome.holds for outcome in outcomes),
        "; ".join(outcome.absent for outcome in outcomes if outcome.absent) or None,
        figures,
    )
