"""`vivace bench serve`: how a server does under load."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vivace.bench.plans import ArrivalPlan, TargetPlan, WorkloadPlan
from vivace.cli.bench_output import Output, check_folder, print_table, readable
from vivace.cli.console import notice, progress
from vivace.cli.flags import flags
from vivace.core.errors import UsageError, VivaceError

if TYPE_CHECKING:
    from vivace.bench.serving import Served

Model = Annotated[
    str | None,
    typer.Option("--model", help="The model's name at the server; left out: the first it lists."),
]
# `--goodput ttft:200 tpot:50`: an option takes one word, the others arrive as arguments.
MoreGoodput = Annotated[list[str] | None, typer.Argument(hidden=True)]

LINES = {
    "completed": "requests completed",
    "failed": "requests failed",
    "duration": "seconds",
    "total_input_tokens": "input tokens",
    "total_output_tokens": "output tokens",
    "request_throughput": "requests per second",
    "request_goodput": "good requests per second",
    "output_throughput": "output tokens per second",
    "total_token_throughput": "tokens per second",
}
METRICS = {
    "ttft": "first token",
    "tpot": "per token after it",
    "itl": "between chunks",
    "e2el": "whole answer",
}


@dataclass(frozen=True)
class ServeOutput(Output):
    """Attributes:
    json: print one JSON object on standard output.
    plot: draw what was measured into this .png or .svg file.
    percentile_metrics: which of ttft, tpot, itl and e2el are reported.
    metric_percentiles: which percentiles are given for each, as 50,90,99.
    goodput: count requests that are fast enough, in milliseconds, as ttft:200 tpot:50 (or e2el).
    save_result: write the JSON object to this file, too.
    save_detailed: put every request's own figures into the JSON object.
    """

    percentile_metrics: str = "ttft,tpot,itl,e2el"
    metric_percentiles: str = "99"
    goodput: str = ""
    save_result: Path | None = None
    save_detailed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.save_result is not None:
            check_folder(self.save_result)


@flags
def serve(
    target: TargetPlan,
    workload: WorkloadPlan,
    arrivals: ArrivalPlan,
    output: ServeOutput,
    model: Model = None,
    more_goodput: MoreGoodput = None,
) -> None:
    """Drive a running OpenAI-compatible server, vivace's or another, and time its answers."""
    from vivace.bench.serving import ServePlan, measure_serving
    from vivace.bench.serving_metrics import parse_wanted

    objectives = _objectives(output.goodput, more_goodput or [])
    wanted = parse_wanted(output.percentile_metrics, output.metric_percentiles, objectives)
    target = replace(target, api_key=target.api_key or os.environ.get("OPENAI_API_KEY"))
    with progress("Measuring") as report:
        served = measure_serving(ServePlan(target, workload, arrivals, wanted, model), report)
    _deliver(served, output)
    _explain(served.result)


def _objectives(first: str, more: list[str]) -> str:
    if more and not first:
        raise UsageError(f"Unexpected argument {more[0]!r}.")
    return " ".join([first, *more])


def _deliver(served: Served, output: ServeOutput) -> None:
    from vivace.bench.plots import plot_serving

    result = served.detailed() if output.save_detailed else served.result
    if output.save_result is not None:
        output.save_result.write_text(json.dumps(result) + "\n", encoding="utf-8")
        notice(f"Wrote {output.save_result}.")
    if output.json:
        output.show(result)
    else:
        show_tables(served.result)
    if served.result["completed"]:
        output.draw(lambda path: plot_serving(path, served))


def show_tables(result: Mapping[str, Any]) -> None:
    lines = {text: result[name] for name, text in LINES.items() if result[name] is not None}
    print_table([(text, readable(value)) for text, value in lines.items()])
    metrics = [name for name in METRICS if f"mean_{name}_ms" in result]
    if not metrics:
        return
    first = f"_{metrics[0]}_ms"
    columns = [name.removesuffix(first) for name in result if name.endswith(first)]
    rows = [
        [METRICS[metric], *(readable(result[f"{column}_{metric}_ms"]) for column in columns)]
        for metric in metrics
    ]
    print()
    print_table([["milliseconds", *columns], *rows])


def _explain(result: Mapping[str, Any]) -> None:
    """What qualifies the figures.

    Raises:
        VivaceError: every request failed.
    """
    for error, count in result["error_counts"].items():
        notice(f"{count} failed: {error}")
    if not result["completed"]:
        raise VivaceError("Every request failed: there is nothing to measure.")
    if not result["output_tokens_counted_by_server"]:
        notice("The server does not count its tokens: output tokens are chunks of its stream.")
    if not result["input_tokens_known"]:
        notice("The server does not count its prompts: input tokens are incomplete.")
