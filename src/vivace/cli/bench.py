"""`vivace bench`: how fast a model runs on this machine, and how fast a server answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from vivace.bench.plans import LatencyPlan, StartupPlan, ThroughputPlan
from vivace.cli.bench_output import Output
from vivace.cli.bench_serve import serve
from vivace.cli.bench_simulate import fit, replay, simulate
from vivace.cli.console import notice, progress
from vivace.cli.flags import flags
from vivace.core.config import EngineConfig

if TYPE_CHECKING:
    from vivace.engine.core import EngineCore

bench = typer.Typer(
    name="bench", help="Measure how fast a model or a server runs.", no_args_is_help=True
)
for command in (serve, fit, simulate, replay):
    bench.command()(command)


@bench.command()
@flags
def latency(config: EngineConfig, plan: LatencyPlan, output: Output) -> None:
    """Time batches of equal requests, one batch after another."""
    from vivace.bench.measure import measure_latency
    from vivace.bench.plots import plot_latency

    core = _load(config)
    with progress("Measuring") as report:
        result = measure_latency(core, plan, config.seed, report)
    output.show({**vars(plan), **result})
    output.draw(lambda path: plot_latency(path, {**vars(plan), **result}))


@bench.command()
@flags
def throughput(config: EngineConfig, plan: ThroughputPlan, output: Output) -> None:
    """Time many requests submitted at once."""
    from vivace.bench.measure import measure_throughput
    from vivace.bench.plots import plot_throughput

    core = _load(config)
    with progress("Measuring") as report:
        result, run = measure_throughput(core, plan, config.seed, report)
    output.show({**vars(plan), **result})
    output.draw(lambda path: plot_throughput(path, result, run.steps))


@bench.command()
@flags
def startup(config: EngineConfig, plan: StartupPlan, output: Output) -> None:
    """Time new processes from their start to their first token."""
    from vivace.bench.plots import plot_startup
    from vivace.bench.startup import measure_startup

    with progress("Measuring") as report:
        result = measure_startup(config, plan, report)
    output.show({**vars(plan), **result})
    output.draw(lambda path: plot_startup(path, result))


def _load(config: EngineConfig) -> EngineCore:
    from vivace.engine.build import build_engine

    return build_engine(config, notice)
