"""`vivace bench fit`, `simulate` and `replay`: policies and fleets tried on paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.bench.plans import FitPlan, SimulationPlan
from vivace.cli.bench_output import Output, check_folder
from vivace.cli.bench_serve import show_tables
from vivace.cli.console import notice, progress
from vivace.cli.flags import JsonFlag, flags
from vivace.core.config import EngineConfig
from vivace.core.errors import VivaceError

if TYPE_CHECKING:
    from vivace.bench.serving import Served

Trace = Annotated[Path, typer.Argument(metavar="TRACE", help="A file with a JSON object per line.")]
ProfileFile = Annotated[
    Path, typer.Option("--profile", metavar="FILE", help="The engine's profile, from bench fit.")
]


@flags
def fit(config: EngineConfig, plan: FitPlan, profile: ProfileFile, json: JsonFlag = False) -> None:
    """Time steps of many shapes and write the profile of this engine, for simulations."""
    from vivace.bench.simulate.fit import fit_profile, spread
    from vivace.bench.simulate.profile import write_profile
    from vivace.engine.build import build_engine

    check_folder(profile)
    core = build_engine(config, notice)
    with progress("Measuring steps") as report:
        fitted = fit_profile(core, config, plan, report)
    write_profile(profile, fitted)
    notice(f"Wrote {profile}.")
    Output(json).show({**vars(plan), "model": fitted.model, **spread(fitted)})


@flags
def simulate(trace: Trace, profile: ProfileFile, plan: SimulationPlan, output: Output) -> None:
    """Predict how a profiled engine, or a fleet of them, serves a trace."""
    from vivace.bench.simulate.measure import simulate as simulated
    from vivace.bench.simulate.profile import read_profile
    from vivace.bench.simulate.trace import read_trace

    with progress("Simulating"):
        served = simulated(read_profile(profile), plan, read_trace(trace))
    _deliver(served, output)


@flags
def replay(trace: Trace, config: EngineConfig, output: Output) -> None:
    """Run a trace on a real engine in this process, for the figures that simulate predicts."""
    from vivace.bench.simulate.measure import replay as replayed
    from vivace.bench.simulate.trace import read_trace
    from vivace.engine.build import build_engine, scheduling

    rows = read_trace(trace)
    core = build_engine(config, notice)
    with progress("Replaying") as report:
        served = replayed(core, scheduling(config), rows, report)
    _deliver(served, output)


def _deliver(served: Served, output: Output) -> None:
    """Raises VivaceError: every request failed."""
    from vivace.bench.plots import plot_serving

    if output.json:
        output.show(served.result)
    else:
        show_tables(served.result)
    if not served.result["completed"]:
        raise VivaceError("Every request failed: there is nothing to measure.")
    output.draw(lambda path: plot_serving(path, served))
