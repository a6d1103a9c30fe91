"""What the scripts of this folder share: each calls its functions, one for each feature."""

from __future__ import annotations

import sys
from collections.abc import Callable


def run_all(features: list[Callable[[], None]]) -> None:
    """Run every one, say which failed, and end with how many did not work."""
    working = sum(works(feature) for feature in features)
    print(f"{working} of {len(features)} features work")
    sys.exit(int(working < len(features)))


def works(feature: Callable[[], None]) -> bool:
    try:
        feature()
    except Exception as error:
        print(f"{feature.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    return True
