"""Which vivace this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def vivace_version() -> str:
    try:
        return version("vivace")
    except PackageNotFoundError:  # run from its sources
        return "unknown"
