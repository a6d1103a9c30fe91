"""Parts of a page that a tool fills, between two marks."""

from __future__ import annotations

import re


def begin(mark: str) -> str:
    return f"<!-- {mark}:begin -->"


def end(mark: str) -> str:
    return f"<!-- {mark}:end -->"


def with_section(page: str, mark: str, section: str) -> str:
    """The page with what stands between the marks replaced."""
    pattern = f"{begin(mark)}.*{end(mark)}"
    return re.sub(pattern, lambda _: f"{begin(mark)}\n{section}{end(mark)}", page, flags=re.S)
