"""A server whose model has a fault, for drills: called as server_program.py.

The engine's process imports this file too, as any that is spawned by a program does. VIVACE_FAULT
says which fault it has: `raise` in every step that computes a request whose prompt begins with
MARK, `hang` for a native call in such a step that never returns nor lets the interpreter go,
`memory N` for N allocations that fail, beginning with such a step.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

from server_program import main

from vivace.core.step import Step
from vivace.engine.runner import Runner

MARK = 4


def with_fault(run: Callable[[Runner, Step], Any], fault: str) -> Callable[[Runner, Step], Any]:
    kind, _, times = fault.partition(" ")
    failures = iter(range(int(times or 0)))
    begun = False

    def faulty(runner: Runner, step: Step) -> Any:
        nonlocal begun
        marked = any(one.request.prompt_token_ids[0] == MARK for one in step.sequences)
        begun = begun or marked
        if kind == "raise" and marked:
            raise ZeroDivisionError("the fault of this drill")
        if kind == "hang" and marked:
            ctypes.PyDLL(None).pause()
        if kind == "memory" and begun and next(failures, None) is not None:
            raise MemoryError
        return run(runner, step)

    return faulty


Runner.run = with_fault(Runner.run, os.environ["VIVACE_FAULT"])  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
