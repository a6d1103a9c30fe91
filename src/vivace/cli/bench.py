"""`vivace bench`: how fast a model runs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from vivace.bench.plans import LatencyPlan, ThroughputPlan
from vivace.cli.console import notice, print_json, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.core.config import EngineConfig

if TYPE_CHECKING:
    from vivace.engine.core import EngineCore

bench = typer.Typer(name="bench", help="Measure how fast a model runs.", no_args_is_help=True)


@bench.command()
@flags
def latency(config: EngineConfig, plan: LatencyPlan, json: JsonFlag = False) -> None:
    """Time batches of equal requests, one batch after another."""
    from vivace.bench.measure import measure_latency

    core = _load(config)
    with progress("Measuring") as report:
        result = measure_latency(core, plan, config.seed, report)
    _show({**vars(plan), **result}, json)


@bench.command()
@flags
def throughput(config: EngineConfig, plan: ThroughputPlan, json: JsonFlag = False) -> None:
    """Time many requests submitted at once."""
    from vivace.bench.measure import measure_throughput

    core = _load(config)
    with progress("Measuring") as report:
        result = measure_throughput(core, plan, config.seed, report)
    _show({**vars(plan), **result}, json)


def _load(config: EngineConfig) -> EngineCore:
    from vivace.engine.build import build_engine

    return build_engine(config, notice)


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    for name, value in result.items():
        if not isinstance(value, list | dict):
            print(f"{name.replace('_', ' '):<28}{_readable(value)}")


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
