"""Faults for drills: a Python that finds this file on its path runs the model with one.

VIVACE_FAULT says which: `raise` for steps that compute a request whose prompt begins with MARK,
`hang` for a native call in such steps that never returns and never lets the interpreter go,
`memory` for as many failed allocations as stand behind it, beginning at such a step.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

MARK = 4
RUNNER = "vivace.engine.runner"


class _Faulty(MetaPathFinder):
    """Puts the fault around the runner as soon as that is imported."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != RUNNER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            _wrap(module.Runner)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _wrap(runner: Any) -> None:
    kind, _, times = os.environ["VIVACE_FAULT"].partition(" ")
    left = int(times or 0)
    run = runner.run

    def faulty(self: Any, step: Any) -> Any:
        nonlocal left
        marked = any(one.request.prompt_token_ids[0] == MARK for one in step.sequences)
        if kind == "raise" and marked:
            raise ZeroDivisionError("the fault of this drill")
        if kind == "hang" and marked:
            ctypes.PyDLL(None).pause()
        if kind == "memory" and left and (marked or left < int(times)):
            left -= 1
            raise MemoryError
        return run(self, step)

    runner.run = faulty


if "VIVACE_FAULT" in os.environ:
    sys.meta_path.insert(0, _Faulty())
