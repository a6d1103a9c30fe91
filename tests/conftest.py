"""Where PyTorch or Transformers is absent, the tests that need them are skipped, and it is said."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

ORACLE = all(find_spec(name) is not None for name in ("torch", "transformers"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if ORACLE:
        return
    for item in items:
        if item.get_closest_marker("oracle"):
            item.add_marker(pytest.mark.skip(reason="PyTorch or Transformers is not installed"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ORACLE:
        terminalreporter.write_line(
            "PyTorch or Transformers is not installed: tests that compare with them were skipped."
        )
