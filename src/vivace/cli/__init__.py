"""The command line: one file per command, and the only place where everything is put together."""

from __future__ import annotations

from vivace.cli.app import main

__all__ = ["main"]
