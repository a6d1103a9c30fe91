"""The page of the server, in a browser."""

from __future__ import annotations

from claims.by_tests import ROOT, tests_pass
from claims.row import Outcome, all_of, missing

TESTS = "tests/serve/page"
PICTURES = ("page-desktop.png", "page-compare.png", "page-phone.png", "page-engine.png")


def works() -> Outcome:
    """Its tests in Chromium and in Node pass, none skipped, and pictures of it are there."""
    return all_of(tests_pass(TESTS), _pictures())


def _pictures() -> Outcome:
    gone = [name for name in PICTURES if not (ROOT / "docs" / name).exists()]
    if gone:
        return missing(", ".join(gone))
    return Outcome(f"{len(PICTURES)} screenshots in docs", holds=True)
