"""What the scripts of this folder share: each calls its functions, one for each feature."""

from __future__ import annotations

import sys
from collections.abc import Callable


def run_all(features: list[Callable[[], None]]) -> None:
    """Run every one, say which failed, and end with how many did not work."""
    failed = 0
    for feature in features:
        try:
            feature()
        except Exception as error:
            failed += 1
            print(f"{feature.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
    print(f"{len(features) - failed} of {len(features)} features work")
    sys.exit(min(failed, 1))
