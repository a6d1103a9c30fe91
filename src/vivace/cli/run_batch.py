"""`vivace run-batch`: a file of requests, answered in a file."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.console import notice, print_json, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError
from vivace.serve.options import ServeOptions

# Nobody waits for one request of a batch, and nobody calls the server that answers it. Of its
# options only the model's name says anything about a line.
_NO_MATTER = {
    "max_queued_requests",
    "max_queued_tokens",
    "target_itl_ms",
    "target_ttft_ms",
    *(set(ServeOptions.__dataclass_fields__) - {"served_model_name"}),
}

Source = Annotated[
    Path, typer.Option("--input-file", "-i", metavar="IN.jsonl", help="Requests, a line for each.")
]
Target = Annotated[
    Path, typer.Option("--output-file", "-o", metavar="OUT.jsonl", help="Where answers go.")
]


@partial(flags, without=_NO_MATTER)
def run_batch(
    config: EngineConfig,
    options: ServeOptions,
    source: Source,
    target: Target,
    json: JsonFlag = False,
) -> None:
    """Answer a file of requests in OpenAI's batch form; run again, it goes on where it stood."""
    from vivace.serve.batch import run_batch as run

    with progress("Answering") as report:
        try:
            result = run(config, options, source, target, notice, report)
        except KeyboardInterrupt:
            raise VivaceError(
                f"Interrupted. What was answered is in {target}; the same command goes on."
            ) from None
    if json:
        print_json(asdict(result))
        return
    before = f", {result.kept} of them by a run before" if result.kept else ""
    print(f"{result.lines} lines answered{before}; {result.failed} with an error.")
