"""Where PyTorch, Transformers or gguf is absent, the tests that need it are skipped, and it is
said."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

ORACLE = all(find_spec(name) is not None for name in ("torch", "transformers"))
GGUF = find_spec("gguf") is not None  # who needs it skips itself


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is packed into the user's own cache, and nothing read from it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


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
    if not GGUF:
        terminalreporter.write_line(
            "gguf is not installed: tests of files that llama.cpp's package writes were skipped."
        )
