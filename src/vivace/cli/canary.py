"""`vivace canary`: what a model predicts on fixed prompts, kept beside it and compared later."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from vivace.cli.console import print_json
from vivace.cli.flags import JsonFlag, flags
from vivace.cli.model import load as load_model
from vivace.core.config import EngineConfig
from vivace.core.errors import UsageError, VivaceError

canary = typer.Typer(
    name="canary",
    help="Record what a model predicts on fixed prompts, and see later whether it still does.",
    no_args_is_help=True,
)

MaxKL = Annotated[
    float, typer.Option("--max-kl", help="Nats above which a divergence is a drift.", min=0)
]
# Six prompts, and none comes again: nothing queues, and nothing is kept.
_ALONE = ("max_queued_requests", "max_queued_tokens", "kv_host_bytes", "kv_disk_bytes")


@canary.command()
@partial(flags, without=_ALONE)
def record(config: EngineConfig, max_kl: MaxKL = 0.01, json: JsonFlag = False) -> None:
    """Keep what the model predicts now in its folder's vivace.json."""
    from vivace.engine.canary import record, save

    llm = load_model(config)
    encode = None if llm.tokenizer is None else llm.tokenizer.encode
    made = record(llm, encode, max_kl)
    path = save(Path(llm.info.folder), made)
    _show({"file": str(path), "precision": made.precision, "max_kl_nats": max_kl}, json)


@canary.command()
@partial(flags, without=_ALONE)
def check(config: EngineConfig, json: JsonFlag = False) -> None:
    """Compare what the model predicts now with the record; a drift is an error."""
    from vivace.engine.canary import load, measure

    llm = load_model(config)
    recorded = load(Path(llm.info.folder))
    if recorded is None or recorded.precision != llm.info.precision:
        raise UsageError(
            f"The model's folder has no canary recorded in {llm.info.precision}; make it with "
            "vivace canary record MODEL and the same flags."
        )
    kl = measure(llm, recorded)
    finite = kl if math.isfinite(kl) else None
    _show({"kl_nats": finite, "max_kl_nats": recorded.max_kl}, json)
    if kl > recorded.max_kl:
        raise VivaceError(
            f"The model predicts otherwise than when its canary was recorded: {kl:.4g} nats where "
            f"{recorded.max_kl:.4g} are allowed. Fetch its files anew, or record it again."
        )


def _show(result: dict[str, Any], json: bool) -> None:
    if json:
        print_json(result)
        return
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.items()))
