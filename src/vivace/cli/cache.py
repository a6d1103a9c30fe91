"""`vivace cache`: the packed weights that make the next start quick."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated

import typer

from vivace.cli.console import notice, print_json
from vivace.cli.flags import JsonFlag, flags

Clear = Annotated[bool, typer.Option("--clear", help="Remove all of them.")]


@flags
def cache(clear: Clear = False, json: JsonFlag = False) -> None:
    """Show the packed weights that are kept for quick starts, or remove them."""
    from vivace.backends.cpu.cache_folder import CacheFolder

    folder = CacheFolder()
    if clear:
        notice(f"Removed {folder.clear() / 2**20:,.1f} MiB.")
    models = folder.models()
    if json:
        print_json({"folder": str(folder.root), "models": [asdict(model) for model in models]})
        return
    print(folder.root)
    for model in models:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(model.used))
        print(f"{model.nbytes / 2**20:>10,.1f} MiB  last used {used}  {model.name}")
