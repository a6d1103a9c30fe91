"""Loading a model for a command, and streaming one answer from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from vivace.cli.console import notice
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.core.request import Delta
from vivace.core.sampling import SamplingParams

if TYPE_CHECKING:
    from vivace.engine.llm import LLM


def load(config: EngineConfig) -> LLM:
    """An engine in this process; what it says about loading goes to standard error."""
    from vivace.engine.llm import LLM

    return LLM(notify=notice, **asdict(config))


def checked(given: dict[str, Any]) -> Callable[[LLM], SamplingParams]:
    """Check the sampling flags that were given (not None) before a model is loaded; the result
    puts them over the model's defaults."""
    overrides = {name: value for name, value in given.items() if value is not None}
    SamplingParams(**overrides)
    return lambda llm: replace(llm.get_default_sampling_params(), **overrides)


def received(deltas: Iterable[Delta], show: Callable[[str], None]) -> list[Delta]:
    """Show each delta's text as it comes, and leave out the empty ones of steps that added nothing.

    Raises:
        VivaceError: the engine gave up.
    """
    taken = []
    for delta in deltas:
        if delta.error is not None:
            raise VivaceError(delta.error)
        if delta == Delta(delta.request_id):
            continue
        taken.append(delta)
        show(delta.text)
    return taken
